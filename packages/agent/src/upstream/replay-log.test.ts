import { Command, CommandFlag } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { EntryState, ReplayLog } from './replay-log.js';

function setUp(limitBytes = 1024 * 1024) {
  const held: Buffer[] = [];
  const log = new ReplayLog(limitBytes, {
    hold: (slices) => held.push(...slices),
    release: (slices) => {
      for (const slice of slices) held.splice(held.indexOf(slice), 1);
    },
  });
  const write = (offset: number, length = 4096): number =>
    log.add(Command.Write, 0, offset, length, [Buffer.alloc(length)]);
  const kept = (): number[] => {
    const offsets: number[] = [];
    for (let entry = log.firstEntry; entry < log.nextEntry; entry++) {
      if (log.stateOf(entry) === EntryState.Kept) offsets.push(log.offsetOf(entry));
    }
    return offsets;
  };
  return { log, held, write, kept };
}

describe('the replay log', () => {
  it('keeps acknowledged writes in the order of submission until a later flush covers them', () => {
    const { log, write, kept, held } = setUp();
    const [first, second] = [write(0), write(4096)];
    log.acknowledged(second);
    log.acknowledged(first);
    expect(kept()).toEqual([0, 4096]);
    expect(held).toHaveLength(2);
    log.flushed(log.stamp, log.nextEntry);
    expect(log.isEmpty).toBe(true);
    expect(log.bytes).toBe(0);
    expect(held).toEqual([]);
  });

  it('a flush does not cover what was acknowledged only after it was sent', () => {
    const { log, write, kept } = setUp();
    const [first, second] = [write(0), write(4096)];
    log.acknowledged(first);
    const { stamp, nextEntry } = log;
    log.acknowledged(second);
    write(8192);
    log.flushed(stamp, nextEntry);
    expect(kept()).toEqual([4096]);
  });

  it('knows whether anything acknowledged may be lost: not what was written with FUA, or has failed', () => {
    const { log, write } = setUp();
    const fua = log.add(Command.Write, CommandFlag.Fua, 0, 4096, [Buffer.alloc(4096)]);
    log.acknowledged(fua);
    expect([log.hasFlushable, log.hasUnstable]).toEqual([true, false]);
    const [kept, open, failed, refused] = [write(4096), write(8192), write(12_288), write(16_384)];
    expect(log.hasUnstable).toBe(false);
    log.failed(failed);
    expect(log.hasUnstable).toBe(false);
    for (const entry of [kept, refused]) log.acknowledged(entry);
    expect(log.hasUnstable).toBe(true);
    log.giveUp(refused);
    log.failed(kept);
    expect(log.hasUnstable).toBe(true);
    log.flushed(log.stamp, log.nextEntry);
    expect(log.hasUnstable).toBe(false);
    log.acknowledged(open);
    log.abandon();
    expect(log.hasUnstable).toBe(false);
  });

  it('keeps a scar where a write failed, without its payload', () => {
    const { log, write, held } = setUp();
    const first = write(0);
    log.failed(first);
    expect(log.stateOf(first)).toBe(EntryState.Scar);
    expect(log.bytes).toBeLessThan(200);
    expect(held).toEqual([]);
    log.flushed(log.stamp, log.nextEntry);
    expect(log.isEmpty).toBe(true);
  });

  it('is complete until something is abandoned, and again when a flush has covered what was', () => {
    const { log, write } = setUp();
    log.acknowledged(write(0));
    const { stamp, nextEntry } = log;
    log.acknowledged(write(4096));
    log.abandon();
    expect(log.complete).toBe(false);
    log.flushed(stamp, nextEntry);
    expect(log.complete).toBe(false);
    log.flushed(log.stamp, log.nextEntry);
    expect(log.complete).toBe(true);
  });

  it('has room for one write of any size when it is empty, and then none beyond its bound', () => {
    const { log, write } = setUp(16 * 1024);
    expect(log.hasRoomFor(1024 * 1024)).toBe(true);
    const entry = write(0, 8192);
    expect(log.hasRoomFor(8192)).toBe(false);
    expect(log.hasFlushable).toBe(false);
    log.acknowledged(entry);
    expect(log.hasFlushable).toBe(true);
    expect(log.wantsFlush).toBe(true);
  });

  it('keeps nothing, and is never complete, with a bound of 0', () => {
    const { log, write } = setUp(0);
    expect(write(0)).toBe(0);
    log.acknowledged(0);
    expect(log.complete).toBe(false);
    expect(log.hasRoomFor(1024)).toBe(true);
  });

  it('grows around whatever is in it, and counts right through thousands of entries', () => {
    const { log, write, kept, held } = setUp(1024 * 1024 * 1024);
    let oldest = 0;
    const open: number[] = [];
    for (let at = 0; at < 5000; at++) {
      open.push(write(at * 4096));
      if (at % 3 === 0) log.acknowledged(open.shift() ?? 0);
      if (at % 100 === 99) {
        log.flushed(log.stamp, log.nextEntry);
        oldest = open.length;
      }
    }
    for (const entry of open) log.acknowledged(entry);
    expect(oldest).toBeGreaterThan(0);
    expect(kept()).toHaveLength(held.length);
    const offsets = kept();
    expect([...offsets].sort((one, other) => one - other)).toEqual(offsets);
    log.flushed(log.stamp, log.nextEntry);
    expect([log.bytes, held.length, log.hasFlushable]).toEqual([0, 0, false]);
  });
});
