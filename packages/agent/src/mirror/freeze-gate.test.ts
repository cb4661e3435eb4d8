import { Command, NbdError, writeBytes } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { CongestionGate } from './congestion-gate.js';
import { FreezeGate } from './freeze-gate.js';
import { type Mirror } from './mirror.js';
import { WriteOperation } from '../operations.js';
import { RecordWindow } from './record-window.js';
import { outcomeOf } from '../testing/upstream-kit.js';
import { volumeKit } from '../testing/volume-kit.js';

function setUp() {
  const hub = { away: true };
  const seen: string[] = [];
  const gate = new FreezeGate(() => hub.away);
  const write = (name: string): boolean =>
    gate.hold(
      new WriteOperation({
        locked: () => seen.push(name),
        admitted: () => undefined,
        upstreamAnswered: () => undefined,
        givenUp: () => seen.push(`${name} given up`),
      }),
    );
  return { hub, seen, gate, write };
}

describe('on-disconnect freeze (promise ACK)', () => {
  it('lets writes wait while the hub is away, and go on in their order when it is back', () => {
    const { hub, seen, gate, write } = setUp();
    expect(write('a')).toBe(true);
    expect(write('b')).toBe(true);
    gate.changed();
    expect(seen).toEqual([]);
    hub.away = false;
    gate.changed();
    expect(seen).toEqual(['a', 'b']);
    expect(write('c')).toBe(false);
  });

  it('at the end gives up what waits and what comes', () => {
    const { seen, gate, write } = setUp();
    write('a');
    gate.giveUp();
    expect(write('b')).toBe(true);
    expect(seen).toEqual(['a given up', 'b given up']);
    expect(gate.waiting).toBe(0);
  });

  /** A write waits for room in the window when the hub goes. */
  async function congested() {
    const seen: { mirror: Mirror | null } = { mirror: null };
    const mirror = {
      window: new RecordWindow(0),
      get linked() {
        return seen.mirror?.linked ?? true;
      },
    };
    const gate = new CongestionGate(mirror);
    const freeze = new FreezeGate(() => !mirror.linked);
    const kit = await volumeKit({ windowBytes: 64 * 1024, waitsFor: { gate, freeze } });
    seen.mirror = kit.mirror;
    mirror.window = kit.mirror.window;
    const block = Buffer.alloc(40 * 1024, 1);
    await kit.run(writeBytes(kit.volume, 0, block));
    const waiting = outcomeOf(writeBytes(kit.volume, 0, block));
    await kit.platform.clock.advance(1000);
    const written = (): number => kit.upstream.seen.filter((command) => command === Command.Write).length;
    expect(written()).toBe(1);
    kit.mirror.linkDown();
    gate.roomMade();
    await kit.platform.clock.advance(1000);
    return { ...kit, freeze, waiting, written };
  }

  it('holds a write too that waited for room, which the hub that is gone makes no more', async () => {
    const { freeze, mirror, run, volume, waiting, written } = await congested();
    expect([written(), freeze.waiting]).toEqual([1, 1]);
    mirror.linkUp({ congested: false, send: () => undefined });
    mirror.acknowledged(mirror.lastNumber, mirror.lastNumber);
    freeze.changed();
    expect(await run(waiting)).toBe(0);
    expect([written(), freeze.waiting]).toEqual([2, 0]);
    // The room that it was given before it had to wait here is free again.
    mirror.acknowledged(mirror.lastNumber, mirror.lastNumber);
    expect(await run(outcomeOf(writeBytes(volume, 0, Buffer.alloc(40 * 1024, 2))))).toBe(0);
  });

  it('and gives it up at the end', async () => {
    const { freeze, run, waiting, written } = await congested();
    freeze.giveUp();
    expect(await run(waiting)).toBe(NbdError.Eshutdown);
    expect(written()).toBe(1);
  });
});
