import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { PendingRuns } from './pending.js';
import { Tidying } from './tidying.js';

interface Rig {
  readonly tidying: Tidying;
  readonly clock: SimClock;
  /** What was asked for, in order. */
  readonly asked: string[];
  readonly pending: PendingRuns;
  durableNumber: number;
  slotsWait: boolean;
  isKept: boolean;
}

const SLOTS = 64;

function rig(): Rig {
  const clock = new SimClock();
  const asked: string[] = [];
  const pending = new PendingRuns();
  const made: Rig = {
    clock,
    asked,
    pending,
    durableNumber: 0,
    slotsWait: false,
    isKept: true,
    tidying: new Tidying({
      clock,
      marks: {
        pending,
        flushedTicket: () => 0,
        get durableNumber() {
          return made.durableNumber;
        },
        waitsForFlush: () => made.slotsWait || pending.waitsForFlush(made.durableNumber, () => 0),
      },
      slots: SLOTS,
      pages: {
        prepare: (count) => asked.push(`prepare ${count}`),
        writeStale: () => {
          asked.push('write');
          return Promise.reject(new Error('told elsewhere'));
        },
      },
      isKept: () => made.isKept,
      wantsFlush: () => asked.push('flush'),
    }),
  };
  return made;
}

describe('Tidying', () => {
  it('writes pages a second after the first has become stale, once for all that follow', async () => {
    const { tidying, clock, asked } = rig();
    tidying.schedule();
    await clock.advance(600);
    tidying.schedule();
    await clock.advance(399);
    expect(asked).toEqual([]);
    await clock.advance(1);
    expect(asked).toEqual(['write']);
    await clock.advance(5000);
    tidying.schedule();
    await clock.advance(1000);
    expect(asked).toEqual(['write', 'write']);
  });

  it('then asks for a flush too, where a copy waits for nothing else', async () => {
    const made = rig();
    made.pending.add(0, 0, 8, 5, 1);
    made.tidying.schedule();
    await made.clock.advance(1000);
    expect(made.asked).toEqual(['write']);
    made.durableNumber = 5;
    made.tidying.schedule();
    await made.clock.advance(1000);
    expect(made.asked).toEqual(['write', 'flush', 'write']);
  });

  it('asks for one flush at a time', () => {
    const made = rig();
    made.tidying.askIfNeeded();
    expect(made.asked).toEqual([]);
    made.slotsWait = true;
    made.tidying.askIfNeeded();
    made.tidying.askIfNeeded();
    expect(made.asked).toEqual(['flush']);
    made.tidying.flushed();
    made.tidying.askIfNeeded();
    expect(made.asked).toEqual(['flush', 'flush']);
  });

  it('makes marks finer only when proof would not make room: few slots can be had, or a write waits for one', () => {
    const made = rig();
    made.slotsWait = true;
    made.tidying.makeRoom(SLOTS / 8, false);
    expect(made.asked).toEqual(['flush']);
    made.tidying.makeRoom(SLOTS / 8 - 1, false);
    made.tidying.makeRoom(SLOTS, true);
    expect(made.asked).toEqual(['flush', `prepare ${SLOTS / 4}`, `prepare ${SLOTS / 4}`]);
  });

  it('does nothing once marks are not kept any more, or when it is stopped', async () => {
    const made = rig();
    made.tidying.schedule();
    made.isKept = false;
    await made.clock.advance(1000);
    made.tidying.schedule();
    made.isKept = true;
    await made.clock.advance(1000);
    made.tidying.schedule();
    made.tidying.stop();
    await made.clock.advance(1000);
    expect(made.asked).toEqual([]);
  });
});
