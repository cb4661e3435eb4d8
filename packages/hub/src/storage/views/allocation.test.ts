import { AllocationFlag, type BlockDevice, blockStatus, CommandFlag, writeBytes } from '@rephub/nbd';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { FileBaseImage } from '../base/file-base-image.js';
import { Timeline } from '../layers/timeline.js';
import { ScriptedAgent } from '../testing/scripted-agent.js';
import { pattern, startedStore } from '../testing/store-kit.js';
import type { GroupStore } from '../store-types.js';
import { inStretches, RunCollector } from './point-content.js';

const SIZE = 32 * 1024 * 1024;
const BLOCK = 4096;
const PIECES = 1500;
const HOLE = AllocationFlag.Hole | AllocationFlag.Zero;

/** A disk of which every other block of the first 12 MB is written. */
async function fragmented(retentionMs: number): Promise<GroupStore> {
  const clock = new SimClock();
  const on = { clock, files: new SimFiles({ clock }), randomness: new SeededRandomness(7) };
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  for (let piece = 0; piece < PIECES; piece += 1) agent.write(0, piece * 2 * BLOCK, pattern(BLOCK, piece));
  agent.spanEnd();
  const store = await startedStore(on, agent, { retentionMs });
  await clock.advance(10_000);
  return store;
}

/** The map of a disk as a client asks for it, from where the last answer ended; neighbours that look the same are one. */
async function mapOf(device: BlockDevice, flags: number): Promise<{ runs: number[]; answers: number }> {
  const runs: number[] = [];
  let answers = 0;
  for (let at = 0; at < device.sizeBytes;) {
    const answer = await blockStatus(device, at, device.sizeBytes - at, 'base:allocation', flags);
    answers += 1;
    expect(answer.runs.length).toBeGreaterThan(0);
    expect(answer.runs.length).toBeLessThanOrEqual(flags === 0 ? 2 * 1024 : 2);
    for (let run = 0; run < answer.runs.length; run += 2) {
      const [length, kind] = answer.runs.slice(run, run + 2) as [number, number];
      if (runs.at(-1) === kind) runs[runs.length - 2] = (runs.at(-2) ?? 0) + length;
      else runs.push(length, kind);
      at += length;
    }
  }
  return { runs, answers };
}

const EXPECTED = Array.from({ length: PIECES }, (_, piece) => [
  BLOCK,
  0,
  piece === PIECES - 1 ? SIZE - (2 * piece + 1) * BLOCK : BLOCK,
  HOLE,
]).flat();

describe('block status of a fragmented disk', () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  for (const [where, retentionMs] of [
    ['in the journal', 3_600_000],
    ['in the base image', 0],
  ] as const) {
    it(`${where}: whole, in few answers or one run at a time`, async () => {
      const store = await fragmented(retentionMs);
      const view = await store.openView();
      const device = view.device('disk0');
      expect(await mapOf(device, 0)).toEqual({ runs: EXPECTED, answers: 3 });
      expect(await mapOf(device, CommandFlag.RequestOne)).toEqual({ runs: EXPECTED, answers: 2 * PIECES });
      await view.close();
      await store.close({ drain: false });
    });

    it(`${where}: who asks for one run does not have the whole disk looked up`, async () => {
      const store = await fragmented(retentionMs);
      const view = await store.openView();
      const device = view.device('disk0');
      const resolve = vi.spyOn(Timeline.prototype, 'resolve');
      const nextData = vi.spyOn(FileBaseImage.prototype, 'nextData');
      const { runs } = await blockStatus(device, 0, SIZE, 'base:allocation', CommandFlag.RequestOne);
      expect(runs).toEqual([BLOCK, 0]);
      const lookedUp = resolve.mock.calls.reduce((sum, [, , , start, end]) => sum + end - start, 0);
      expect(lookedUp).toBeLessThanOrEqual(1024 * 1024);
      if (retentionMs === 0) expect([1, 2]).toContain(nextData.mock.calls.length);
      else expect(nextData).not.toHaveBeenCalled();
      await view.close();
      await store.close({ drain: false });
    });
  }

  it('of a test: what it wrote itself lies over the point, one run at a time', async () => {
    const store = await fragmented(0);
    const branch = await store.openBranch('drill', { scratchBytes: SIZE });
    const device = branch.device('disk0');
    await writeBytes(device, BLOCK, Buffer.alloc(BLOCK, 7));
    const expected = [3 * BLOCK, 0, ...EXPECTED.slice(6)];
    expect(await mapOf(device, 0)).toEqual({ runs: expected, answers: 3 });
    expect((await mapOf(device, CommandFlag.RequestOne)).runs).toEqual(expected);
    await branch.drop();
    await store.close({ drain: false });
  });
});

describe('inStretches', () => {
  it('covers the range without a gap, in longer stretches where there is little to see', async () => {
    const stretches: [number, number][] = [];
    const into = new RunCollector();
    await inStretches(100, 2 ** 30, into, (from, to) => {
      stretches.push([from, to]);
      into.data(to - from);
      return Promise.resolve({ to, runs: 1 });
    });
    expect(stretches[0]?.[0]).toBe(100);
    for (let at = 1; at < stretches.length; at += 1) expect(stretches[at]?.[0]).toBe(stretches[at - 1]?.[1]);
    expect(stretches.at(-1)?.[1]).toBe(2 ** 30);
    expect(stretches.length).toBeLessThanOrEqual(14);
    expect(into.runs).toEqual([2 ** 30 - 100, 0]);
  });

  it('looks up no more at once behind a long hole than elsewhere: there may be a piece in every sector (BOUND)', async () => {
    const into = new RunCollector();
    let longest = 0;
    await inStretches(0, 2 ** 43, into, (from, to) => {
      longest = Math.max(longest, to - from);
      into.hole(to - from);
      return Promise.resolve({ to, runs: 1 });
    });
    expect(longest).toBe(256 * 1024 * 1024);
    expect(into.runs).toEqual([2 ** 43, HOLE]);
  });

  it('ends early, and takes nothing more, where very much looks the same', async () => {
    const into = new RunCollector();
    let calls = 0;
    await inStretches(0, 2 ** 40, into, (from, to) => {
      calls += 1;
      into.data(to - from);
      return Promise.resolve({ to, runs: 1000 });
    });
    expect(calls).toBe(66);
    expect(into.full).toBe(true);
    expect(into.runs).toEqual([66 * 256 * 1024, 0]);
  });

  it('goes on from where a stretch was left', async () => {
    const into = new RunCollector();
    const begun: number[] = [];
    await inStretches(0, 1000, into, (from) => {
      begun.push(from);
      into.data(300);
      return Promise.resolve({ to: Math.min(1000, from + 300), runs: 1 });
    });
    expect(begun).toEqual([0, 300, 600, 900]);
  });
});
