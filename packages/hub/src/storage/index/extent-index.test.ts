import { describe, expect, it } from 'vitest';
import { Extent, ExtentIndex, IndexMemory } from './extent-index.js';
import { LEAF_BYTES, Place } from './extent-leaf.js';
import { Resolver } from './resolver.js';
import { RunList } from './run-list.js';

/** A small generator of our own, so that a failing seed can be told and replayed. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** What the model holds for a byte: Place.Gap, Place.Zero, Place.Unreadable or the journal position of the byte. */
function check(index: ExtentIndex, model: Float64Array, note: string): void {
  const runs = new RunList();
  index.lookUp(0, model.length, runs);
  let at = 0;
  for (let run = 0; run < runs.count; run += 1) {
    if (runs.start(run) !== at) throw new Error(`${note}: run starts at ${runs.start(run)}, expected ${at}`);
    for (; at < runs.end(run); at += 1) {
      const place = runs.place(run);
      const expected = place < 0 ? place : place + (at - runs.start(run));
      if (model[at] !== expected) throw new Error(`${note}: byte ${at} is ${expected}, expected ${model[at]}`);
    }
  }
  if (at !== model.length) throw new Error(`${note}: runs end at ${at}`);
  const extent = new Extent();
  let count = 0;
  let end = -1;
  let kind = 0;
  for (let more = index.seek(0, extent); more; more = index.next(extent)) {
    if (extent.start < end || extent.end <= extent.start) throw new Error(`${note}: extents out of order`);
    if (extent.start === end && extent.place < 0 && extent.place === kind)
      throw new Error(`${note}: neighbours not joined`);
    end = extent.end;
    kind = extent.place;
    count += 1;
  }
  if (count !== index.count) throw new Error(`${note}: ${count} extents, ${index.count} counted`);
}

describe('extent index', () => {
  it.each([1, 2, 3, 4, 5, 6])('holds what a byte-by-byte model holds (seed %i)', (seed) => {
    const next = random(seed * 7919);
    const size = 4000;
    const memory = new IndexMemory();
    const index = new ExtentIndex(memory);
    const model = new Float64Array(size).fill(Place.Gap);
    let position = 0;
    for (let step = 0; step < 6000; step += 1) {
      const longest = next(50) === 0 ? 1500 : next(4) === 0 ? 40 : 3;
      const start = next(size);
      const end = Math.min(size, start + 1 + next(longest));
      const what = next(10);
      if (what < 7) {
        index.insert(start, end, position);
        for (let at = start; at < end; at += 1) model[at] = position + (at - start);
        position += end - start + 96;
      } else if (what === 7) {
        index.insert(start, end, Place.Zero);
        model.fill(Place.Zero, start, end);
      } else if (what === 8) {
        index.insert(start, end, Place.Unreadable);
        model.fill(Place.Unreadable, start, end);
      } else {
        index.erase(start, end);
        model.fill(Place.Gap, start, end);
      }
      if (step % 100 === 0) check(index, model, `seed ${seed} step ${step}`);
    }
    check(index, model, `seed ${seed} end`);
    index.erase(0, size);
    expect(index.count).toBe(0);
    expect(memory.bytes).toBe(0);
  });

  it('a zero of 1 TiB is one extent, and replaces what it covers', () => {
    const memory = new IndexMemory();
    const index = new ExtentIndex(memory);
    for (let at = 0; at < 10_000; at += 1) index.insert(at * 8192, at * 8192 + 4096, at * 5000);
    expect(index.count).toBe(10_000);
    index.insert(0, 2 ** 40, Place.Zero);
    expect(index.count).toBe(1);
    expect(memory.bytes).toBe(LEAF_BYTES);
    const extent = new Extent();
    expect(index.seek(12345, extent)).toBe(true);
    expect(extent).toMatchObject({ start: 0, end: 2 ** 40, place: Place.Zero });
  });

  it('a hit in the middle of a large zero leaves it on both sides', () => {
    const index = new ExtentIndex(new IndexMemory());
    index.insert(0, 2 ** 44, Place.Zero);
    index.insert(2 ** 43, 2 ** 43 + 4096, 77);
    const runs = new RunList();
    index.lookUp(2 ** 43 - 10, 2 ** 43 + 5000, runs);
    expect(runs.count).toBe(3);
    expect(runs.place(1)).toBe(77);
    expect(runs.place(2)).toBe(Place.Zero);
    expect(index.coveredBytes()).toBe(2 ** 44);
  });

  it('extents appended in order fill their leaves, so an extent costs about 22 bytes', () => {
    const memory = new IndexMemory();
    const index = new ExtentIndex(memory);
    for (let at = 0; at < 100_000; at += 1) index.insert(at * 4096, at * 4096 + 4096, at * 4192);
    expect(memory.bytes / index.count).toBeLessThan(24);
  });

  it('iteration from an offset begins with the extent that covers it', () => {
    const index = new ExtentIndex(new IndexMemory());
    index.insert(10, 20, 1000);
    index.insert(30, 40, 2000);
    const extent = new Extent();
    expect(index.seek(15, extent) && extent.start).toBe(10);
    expect(index.seek(20, extent) && extent.start).toBe(30);
    expect(index.seek(40, extent)).toBe(false);
  });

  it('several indexes are looked up newest first, each filling what is left', () => {
    const memory = new IndexMemory();
    const older = new ExtentIndex(memory);
    const newer = new ExtentIndex(memory);
    older.insert(0, 100, 1000);
    newer.insert(40, 60, Place.Zero);
    newer.insert(90, 120, 5000);
    const resolver = new Resolver();
    resolver.begin(20, 130);
    resolver.fill(newer);
    expect(resolver.gaps).toBe(true);
    resolver.fill(older);
    const { runs } = resolver;
    const seen: number[][] = [];
    for (let run = 0; run < runs.count; run += 1) seen.push([runs.start(run), runs.end(run), runs.place(run)]);
    expect(seen).toEqual([
      [20, 40, 1020],
      [40, 60, Place.Zero],
      [60, 90, 1060],
      [90, 120, 5000],
      [120, 130, Place.Gap],
    ]);
  });
});
