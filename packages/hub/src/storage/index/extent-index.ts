/**
 * Ordered extents of one volume that do not overlap: which bytes of the volume are where in the journal, zero, or
 * unreadable. A sorted list in two levels: a directory of leaves, leaves of typed arrays.
 *
 * Always holds:
 *  - extents are in address order, none is empty, no two overlap; neighbouring ones of zeroes (or unreadable) are one;
 *  - a later insert wins over what it overlaps, whatever the sizes; a zero of 1 TiB is one extent;
 *  - no leaf is empty; `firsts[i]` is the start of leaf i's first extent.
 * Must not know: layers, journals, what a volume is.
 */
import { ExtentLeaf, LEAF_BYTES, LEAF_EXTENTS, Place } from './extent-leaf.js';
import type { RunList } from './run-list.js';

/** A leaf with fewer extents is joined with its neighbour when both then fill at most three quarters. */
const SPARSE = LEAF_EXTENTS / 4;
const JOINED = (LEAF_EXTENTS * 3) / 4;

/** Shared by the indexes whose memory is accounted together. */
export class IndexMemory {
  bytes = 0;
}

/** One extent, for iteration; filled anew by each step. */
export class Extent {
  start = 0;
  end = 0;
  /** Journal position of the first byte, or a Place. */
  place = 0;
}

export class ExtentIndex {
  readonly #memory: IndexMemory;
  #leaves: ExtentLeaf[] = [];
  #firsts = new Float64Array(16);
  #count = 0;
  // Where the last search ended: leaf and entry.
  #leaf = 0;
  #entry = 0;

  constructor(memory: IndexMemory) {
    this.#memory = memory;
  }

  /** How many extents. */
  get count(): number {
    return this.#count;
  }

  /** Bytes [start, end) are at journal position `place` on, or are what a Place says. */
  insert(start: number, end: number, place: number): void {
    if (end <= start) return;
    if (this.#leaves.length === 0) {
      this.#addLeaf(0, new ExtentLeaf());
      this.#insertAt(0, 0, start, end - start, place);
      return;
    }
    this.#find(start);
    const leaf = this.#leafAt(this.#leaf);
    const entry = this.#entry;
    if (place >= 0 && entry > 0) {
      const before = entry - 1;
      // The same range written again: by far the most common overlap.
      if (leaf.start(before) === start && leaf.end(before) === end) {
        leaf.put(before, start, end - start, place);
        return;
      }
      if (leaf.end(before) <= start && this.#startOf(this.#leaf, entry) >= end) {
        this.#insertAt(this.#leaf, entry, start, end - start, place);
        return;
      }
    }
    this.erase(start, end);
    if (place < 0) this.#insertJoined(start, end, place);
    else this.#insertFound(start, end, place);
  }

  /** Nothing is known of [start, end) any more. */
  erase(start: number, end: number): void {
    if (this.#leaves.length === 0 || end <= start) return;
    this.#find(start);
    let at = this.#leaf;
    let entry = this.#entry;
    let leaf = this.#leafAt(at);
    if (entry > 0 && leaf.end(entry - 1) > start) {
      const before = entry - 1;
      const beforeEnd = leaf.end(before);
      const place = leaf.place(before);
      const cut = end - leaf.start(before);
      if (leaf.start(before) < start) leaf.trimBack(before, start);
      else entry = before;
      if (beforeEnd > end) {
        if (entry === before) leaf.trimFront(before, end);
        else this.#insertAt(at, entry, end, beforeEnd - end, place >= 0 ? place + cut : place);
        if (entry === 0) this.#firsts[at] = leaf.start(0);
        return;
      }
    }
    for (;;) {
      let to = entry;
      while (to < leaf.count && leaf.end(to) <= end) to += 1;
      const reachesOn = to === leaf.count;
      if (!reachesOn && leaf.start(to) < end) leaf.trimFront(to, end);
      if (to > entry) {
        leaf.drop(entry, to);
        this.#count -= to - entry;
      }
      if (leaf.count === 0) {
        this.#dropLeaf(at);
      } else {
        this.#firsts[at] = leaf.start(0);
        at += 1;
      }
      if (!reachesOn || at >= this.#leaves.length || (this.#firsts[at] as number) >= end) break;
      leaf = this.#leafAt(at);
      entry = 0;
    }
    if (at > 0) this.#joinIfSparse(at - 1);
    this.#joinIfSparse(at);
  }

  /** Forgets everything. */
  clear(): void {
    this.#memory.bytes -= this.#leaves.length * LEAF_BYTES;
    this.#leaves = [];
    this.#firsts = new Float64Array(16);
    this.#count = 0;
  }

  /** The first extent that ends above `offset`, whole; false when there is none. */
  seek(offset: number, extent: Extent): boolean {
    if (this.#leaves.length === 0) return false;
    this.#find(offset);
    if (this.#entry > 0 && this.#leafAt(this.#leaf).end(this.#entry - 1) > offset) this.#entry -= 1;
    return this.#fill(extent);
  }

  /** The extent after the one of the last `seek` or `next`; false at the end. Nothing may be changed in between. */
  next(extent: Extent): boolean {
    this.#entry += 1;
    return this.#fill(extent);
  }

  /** Appends what is known of [start, end) to `runs`, gaps as Place.Gap. */
  lookUp(start: number, end: number, runs: RunList): void {
    let at = start;
    if (this.#leaves.length > 0) {
      this.#find(start);
      let leafAt = this.#leaf;
      let entry = this.#entry;
      let leaf = this.#leafAt(leafAt);
      if (entry > 0 && leaf.end(entry - 1) > start) entry -= 1;
      while (at < end) {
        if (entry === leaf.count) {
          leafAt += 1;
          if (leafAt === this.#leaves.length) break;
          leaf = this.#leafAt(leafAt);
          entry = 0;
        }
        const extentStart = leaf.start(entry);
        if (extentStart >= end) break;
        if (extentStart > at) {
          runs.push(at, extentStart, Place.Gap);
          at = extentStart;
        }
        const to = Math.min(end, leaf.end(entry));
        const place = leaf.place(entry);
        runs.push(at, to, place >= 0 ? place + (at - extentStart) : place);
        at = to;
        entry += 1;
      }
    }
    if (at < end) runs.push(at, end, Place.Gap);
  }

  /** Bytes that the extents cover; walks them all. */
  coveredBytes(): number {
    let bytes = 0;
    for (const leaf of this.#leaves) {
      for (let entry = 0; entry < leaf.count; entry += 1) bytes += leaf.length(entry);
    }
    return bytes;
  }

  #fill(extent: Extent): boolean {
    let leaf = this.#leaves[this.#leaf];
    if (leaf !== undefined && this.#entry >= leaf.count) {
      this.#leaf += 1;
      this.#entry = 0;
      leaf = this.#leaves[this.#leaf];
    }
    if (leaf === undefined) return false;
    extent.start = leaf.start(this.#entry);
    extent.end = leaf.end(this.#entry);
    extent.place = leaf.place(this.#entry);
    return true;
  }

  /** The leaf that `offset` belongs to, and in it the first entry that starts above. */
  #find(offset: number): void {
    const firsts = this.#firsts;
    let low = 1;
    let high = this.#leaves.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((firsts[middle] as number) > offset) high = middle;
      else low = middle + 1;
    }
    this.#leaf = low - 1;
    this.#entry = this.#leafAt(low - 1).firstAbove(offset);
  }

  #insertFound(start: number, end: number, place: number): void {
    if (this.#leaves.length === 0) this.#addLeaf(0, new ExtentLeaf());
    this.#find(start);
    this.#insertAt(this.#leaf, this.#entry, start, end - start, place);
  }

  /** Contents without bytes: joined with neighbours of the same kind. [start, end) must be a gap. */
  #insertJoined(start: number, end: number, place: number): void {
    let from = start;
    let to = end;
    const neighbour = new Extent();
    if (start > 0 && this.seek(start - 1, neighbour) && neighbour.end === start && neighbour.place === place) {
      from = neighbour.start;
    }
    if (this.seek(end, neighbour) && neighbour.start === end && neighbour.place === place) to = neighbour.end;
    if (from < start) this.erase(from, start);
    if (to > end) this.erase(end, to);
    this.#insertFound(from, to, place);
  }

  #insertAt(at: number, entry: number, start: number, length: number, place: number): void {
    let leaf = this.#leafAt(at);
    let index = entry;
    if (leaf.count === LEAF_EXTENTS) {
      const right = new ExtentLeaf();
      // Growing at the very end, as a first sync does: full leaves stay full.
      const appending = entry === LEAF_EXTENTS && at === this.#leaves.length - 1;
      if (!appending) right.takeFrom(leaf, LEAF_EXTENTS / 2);
      this.#addLeaf(at + 1, right);
      if (appending || index > leaf.count) {
        index -= leaf.count;
        leaf = right;
      }
    }
    leaf.open(index);
    leaf.put(index, start, length, place);
    this.#firsts[at] = this.#leafAt(at).start(0);
    const after = this.#leaves[at + 1];
    if (after !== undefined) this.#firsts[at + 1] = after.start(0);
    this.#count += 1;
  }

  #startOf(at: number, entry: number): number {
    const leaf = this.#leafAt(at);
    if (entry < leaf.count) return leaf.start(entry);
    return at + 1 < this.#leaves.length ? (this.#firsts[at + 1] as number) : Infinity;
  }

  #leafAt(at: number): ExtentLeaf {
    return this.#leaves[at] as ExtentLeaf;
  }

  #addLeaf(at: number, leaf: ExtentLeaf): void {
    const { length } = this.#leaves;
    if (length + 1 > this.#firsts.length) {
      const larger = new Float64Array(this.#firsts.length * 2);
      larger.set(this.#firsts);
      this.#firsts = larger;
    }
    this.#firsts.copyWithin(at + 1, at, length);
    this.#leaves.splice(at, 0, leaf);
    this.#memory.bytes += LEAF_BYTES;
  }

  #dropLeaf(at: number): void {
    this.#firsts.copyWithin(at, at + 1, this.#leaves.length);
    this.#leaves.splice(at, 1);
    this.#memory.bytes -= LEAF_BYTES;
  }

  #joinIfSparse(at: number): void {
    const left = this.#leaves[at];
    const right = this.#leaves[at + 1];
    if (left === undefined || right === undefined) return;
    if (left.count >= SPARSE && right.count >= SPARSE) return;
    if (left.count + right.count > JOINED) return;
    left.takeFrom(right, 0);
    this.#dropLeaf(at + 1);
  }
}
