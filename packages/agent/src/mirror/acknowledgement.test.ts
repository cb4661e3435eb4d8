import { BlockRequest, NbdError } from '@rephub/nbd';
import { silentLogger } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Acknowledgement, type AcknowledgementParts, type AckMode } from './acknowledgement.js';

interface Store {
  readonly mode: AckMode;
  done(): Promise<void>;
  fail(): Promise<void>;
}

function setUp(options: Partial<AcknowledgementParts> = {}) {
  const clock = new SimClock();
  const answers: [name: string, error: number][] = [];
  const stores: Store[] = [];
  const names = new Map<BlockRequest, string>();
  const numbers = { last: 0 };
  const hurried = { count: 0 };
  const acknowledgement = new Acknowledgement({
    clock,
    log: silentLogger,
    mode: 'sync',
    stored: 'async',
    onDisconnect: 'continue',
    lastNumber: () => numbers.last,
    hurry: () => {
      hurried.count += 1;
    },
    store: (mode) =>
      new Promise<void>((resolve, reject) => {
        const settle = async (act: () => void): Promise<void> => {
          act();
          await Promise.resolve();
          await Promise.resolve();
        };
        stores.push({ mode, done: () => settle(resolve), fail: () => settle(() => reject(new Error('no disk'))) });
      }),
    ...options,
  });
  const answerer = {
    answer: (request: BlockRequest, error: number) => {
      answers.push([names.get(request) ?? '?', error]);
    },
  };
  const make = (name: string): BlockRequest => {
    const request = new BlockRequest({ completed: () => undefined });
    names.set(request, name);
    return request;
  };
  return {
    clock,
    answers,
    stores,
    hurried,
    acknowledgement,
    /** A write that upstream has taken; true when its answer waits. */
    write(name: string, fua = false, number = ++numbers.last): boolean {
      return acknowledgement.holdWrite(number, fua, make(name), answerer);
    },
    flush: (name: string): boolean => acknowledgement.holdFlush(make(name), answerer),
    answered: (): string[] => answers.splice(0).map(([name, error]) => (error === 0 ? name : `${name}: ${error}`)),
    async inForce(): Promise<void> {
      acknowledgement.stepChanged(true, true);
      acknowledgement.acknowledged(numbers.last, numbers.last);
      await stores.at(-1)?.done();
      expect(acknowledgement.effectiveMode).toBe(acknowledgement.mode);
    },
  };
}

describe('acknowledgement (promise ACK)', () => {
  it('async: nothing waits', () => {
    const kit = setUp({ mode: 'async' });
    kit.acknowledgement.stepChanged(true, true);
    expect(kit.write('a')).toBe(false);
    expect(kit.flush('f')).toBe(false);
    expect(kit.stores).toEqual([]);
    expect(kit.hurried.count).toBe(0);
  });

  it('sync: a write is answered when it is durable at the hub, in order, and not when it is only received', async () => {
    const kit = setUp();
    await kit.inForce();
    for (const name of ['a', 'b', 'c']) expect(kit.write(name)).toBe(true);
    kit.acknowledgement.acknowledged(3, 0);
    expect(kit.answered()).toEqual([]);
    kit.acknowledgement.acknowledged(3, 2);
    expect(kit.answered()).toEqual(['a', 'b']);
    kit.acknowledgement.acknowledged(3, 3);
    expect(kit.answered()).toEqual(['c']);
  });

  it.each(['sync', 'semi-sync'] as const)(
    '%s: what one turn brings leaves together; what comes while the hub is at work on it makes the next batch',
    async (mode) => {
      const kit = setUp({ mode });
      await kit.inForce();
      const settled = (number: number): void => {
        kit.acknowledgement.acknowledged(number, mode === 'sync' ? number : 0);
      };
      kit.write('a');
      kit.write('b');
      expect(kit.hurried.count).toBe(0);
      await Promise.resolve();
      expect(kit.hurried.count).toBe(1);
      kit.write('c');
      await Promise.resolve();
      settled(1);
      kit.write('d');
      await Promise.resolve();
      expect(kit.hurried.count).toBe(1);
      settled(2);
      await Promise.resolve();
      expect(kit.hurried.count).toBe(2);
      settled(4);
      await Promise.resolve();
      expect(kit.answered()).toEqual(['a', 'b', 'c', 'd']);
      expect(kit.hurried.count).toBe(2);
      kit.write('e');
      await Promise.resolve();
      expect(kit.hurried.count).toBe(3);
    },
  );

  it('semi-sync: a write when it is received; FUA and flush when all is durable', async () => {
    const kit = setUp({ mode: 'semi-sync' });
    await kit.inForce();
    kit.write('plain');
    kit.write('fua', true);
    expect(kit.flush('flush')).toBe(true);
    kit.acknowledgement.acknowledged(2, 0);
    expect(kit.answered()).toEqual(['plain']);
    kit.acknowledgement.acknowledged(2, 2);
    expect(kit.answered()).toEqual(['fua', 'flush']);
    expect(kit.flush('nothing new')).toBe(false);
  });

  it('is in force only once all that was answered before is durable at the hub, and that is stored', async () => {
    const kit = setUp();
    expect(kit.write('alone')).toBe(false);
    kit.acknowledgement.stepChanged(true, true);
    expect(kit.write('b')).toBe(true);
    expect(kit.acknowledgement.effectiveMode).toBe('async');
    expect(kit.stores).toEqual([]);
    kit.acknowledgement.acknowledged(1, 1);
    expect(kit.stores.map(({ mode }) => mode)).toEqual(['sync']);
    expect(kit.acknowledgement.effectiveMode).toBe('async');
    await kit.stores[0]?.done();
    expect(kit.acknowledgement.effectiveMode).toBe('sync');
  });

  it('answers nothing without the hub before it is stored that the mode is left', async () => {
    const kit = setUp();
    await kit.inForce();
    kit.write('a');
    kit.acknowledgement.stepChanged(true, false);
    expect(kit.acknowledgement.effectiveMode).toBe('async');
    expect(kit.write('b')).toBe(true);
    expect(kit.write('only marked', false, 0)).toBe(true);
    kit.acknowledgement.acknowledged(2, 2);
    expect(kit.answered()).toEqual([]);
    expect(kit.stores.at(-1)?.mode).toBe('async');
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['a', 'b', 'only marked']);
    expect(kit.write('c')).toBe(false);
  });

  it('tries again while it cannot be stored that the mode is left, and writes wait', async () => {
    const kit = setUp();
    await kit.inForce();
    kit.write('a');
    kit.acknowledgement.stepChanged(false, true);
    await kit.stores.at(-1)?.fail();
    expect(kit.answered()).toEqual([]);
    await kit.clock.advance(1000);
    expect(kit.stores).toHaveLength(3);
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['a']);
  });

  it('comes back into force after a cut', async () => {
    const kit = setUp();
    await kit.inForce();
    kit.acknowledgement.stepChanged(true, false);
    kit.acknowledgement.stepChanged(true, true);
    kit.write('a');
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['a']);
    expect(kit.write('b')).toBe(true);
    kit.acknowledgement.acknowledged(2, 2);
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['b']);
    expect(kit.acknowledgement.effectiveMode).toBe('sync');
  });

  it('a cut while it is being stored that the mode is in force is stored too before anybody is answered', async () => {
    const kit = setUp();
    kit.acknowledgement.stepChanged(true, true);
    expect(kit.stores.map(({ mode }) => mode)).toEqual(['sync']);
    kit.write('a');
    kit.acknowledgement.stepChanged(true, false);
    expect(kit.stores.map(({ mode }) => mode)).toEqual(['sync', 'async']);
    await kit.stores[0]?.done();
    expect(kit.answered()).toEqual([]);
    expect(kit.acknowledgement.effectiveMode).toBe('async');
    await kit.stores[1]?.done();
    expect(kit.answered()).toEqual(['a']);
  });

  it('begins with nobody answered when an earlier process left the mode in force', async () => {
    const kit = setUp({ stored: 'sync' });
    expect(kit.write('a')).toBe(true);
    expect(kit.stores.map(({ mode }) => mode)).toEqual(['async']);
    await kit.stores[0]?.done();
    expect(kit.answered()).toEqual(['a']);
  });

  it('freeze: an absent hub is waited for; a gap is not', async () => {
    const kit = setUp({ onDisconnect: 'freeze' });
    await kit.inForce();
    kit.write('a');
    kit.acknowledgement.stepChanged(true, false);
    expect(kit.stores).toHaveLength(1);
    expect(kit.acknowledgement.effectiveMode).toBe('sync');
    kit.acknowledgement.stepChanged(true, true);
    kit.acknowledgement.acknowledged(1, 1);
    expect(kit.answered()).toEqual(['a']);
    kit.write('b');
    kit.acknowledgement.stepChanged(false, true);
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['b']);
  });

  it('the mode can be changed while writes are under way', async () => {
    const kit = setUp();
    await kit.inForce();
    kit.write('a');
    kit.acknowledgement.setMode('async');
    expect(kit.answered()).toEqual([]);
    await kit.stores.at(-1)?.done();
    expect(kit.answered()).toEqual(['a']);
    expect(kit.write('b')).toBe(false);
    kit.acknowledgement.setMode('semi-sync');
    expect(kit.write('c')).toBe(true);
    kit.acknowledgement.acknowledged(3, 2);
    expect(kit.answered()).toEqual(['c']);
    await kit.stores.at(-1)?.done();
    expect(kit.acknowledgement.effectiveMode).toBe('semi-sync');
  });

  it('at the end what still waits is answered with ESHUTDOWN, and so is what comes', async () => {
    const kit = setUp();
    await kit.inForce();
    kit.write('a');
    kit.flush('f');
    kit.acknowledgement.giveUp();
    expect(kit.answered()).toEqual([`a: ${NbdError.Eshutdown}`, `f: ${NbdError.Eshutdown}`]);
    expect(kit.write('b')).toBe(true);
    expect(kit.answered()).toEqual([`b: ${NbdError.Eshutdown}`]);
  });
});
