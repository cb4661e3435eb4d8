import { Command } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { ReplayLog } from './replay-log.js';
import { partOf, planReplay } from './replay-plan.js';

function logOf(...writes: readonly (readonly [offset: number, length: number, command?: Command])[]) {
  const log = new ReplayLog(1 << 20, { hold: () => undefined, release: () => undefined });
  const entries = writes.map(([offset, length, command = Command.Write]) =>
    log.add(command, 0, offset, length, [Buffer.alloc(length)]),
  );
  for (const entry of entries) log.acknowledged(entry);
  return { log, entries };
}

const planned = ({ log, entries }: ReturnType<typeof logOf>): unknown[] => {
  const plan = planReplay(log);
  return entries.map((entry) => plan.get(entry)?.map(({ offset, length }) => [offset, length]) ?? 'whole');
};

describe('the plan of a replay', () => {
  it('plays what nothing has overwritten whole', () => {
    expect(planned(logOf([0, 10], [10, 10], [30, 5]))).toEqual(['whole', 'whole', 'whole']);
  });

  it('leaves out what a later write has overwritten, wherever that lies', () => {
    expect(planned(logOf([0, 10], [0, 10]))).toEqual([[], 'whole']);
    expect(planned(logOf([0, 10], [0, 4], [6, 10]))).toEqual([[[4, 2]], 'whole', 'whole']);
    expect(planned(logOf([0, 10], [2, 2], [6, 2]))).toEqual([
      [
        [0, 2],
        [4, 2],
        [8, 2],
      ],
      'whole',
      'whole',
    ]);
  });

  it('takes writes that touch or overlap for one that covers both', () => {
    expect(planned(logOf([0, 20], [10, 10], [0, 5], [4, 6]))).toEqual([[], 'whole', [[0, 4]], 'whole']);
  });

  it('covers with zeroes, and not with a trim or a write of unknown fate', () => {
    expect(planned(logOf([0, 10], [0, 10, Command.WriteZeroes]))).toEqual([[], 'whole']);
    expect(planned(logOf([0, 10], [0, 10, Command.Trim]))).toEqual(['whole', 'whole']);
    const { log, entries } = logOf([0, 10]);
    log.add(Command.Write, 0, 0, 10, [Buffer.alloc(10)]);
    expect(planned({ log, entries })).toEqual(['whole']);
  });

  it('agrees with bytes that are overwritten one by one', () => {
    for (let round = 0; round < 200; round++) {
      const random = (limit: number): number => Math.floor(fraction() * limit);
      const writes = Array.from({ length: 12 }, () => [random(50), 1 + random(20)] as const);
      const newest = new Int32Array(80).fill(-1);
      for (const [at, [offset, length]] of writes.entries()) newest.fill(at, offset, offset + length);
      const { log, entries } = logOf(...writes);
      const plan = planReplay(log);
      const played = new Int32Array(80).fill(-1);
      for (const [at, entry] of entries.entries()) {
        const [offset, length] = writes[at] ?? [0, 0];
        for (const piece of plan.get(entry) ?? [{ offset, length }]) {
          expect(newest.subarray(piece.offset, piece.offset + piece.length).every((writer) => writer === at)).toBe(
            true,
          );
          played.fill(at, piece.offset, piece.offset + piece.length);
        }
      }
      expect(played).toEqual(newest);
    }
  });

  it('cuts a part out of slices', () => {
    const slices = [Buffer.from('abc'), Buffer.from(''), Buffer.from('defg'), Buffer.from('h')];
    expect(Buffer.concat(partOf(slices, 2, 4)).toString()).toBe('cdef');
    expect(Buffer.concat(partOf(slices, 0, 8)).toString()).toBe('abcdefgh');
  });
});

let state = 20_260_731;
function fraction(): number {
  state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
  return state / 0x8000_0000;
}
