/**
 * One bit per block, with two summaries above: a bit per 4096 bits, a bit per 4096 of those. Finding the
 * next set bit skips what is clear; 2^31 blocks cost at most a few hundred steps.
 *
 * Always holds: a summary bit is set when any bit below it is (it may stay set for a while after the last
 * one went: finding puts that right); `count` is exact.
 * Must not know: bytes, volumes, files.
 */
const GROUP_WORDS = 128;
const GROUP_SHIFT = 12;

/** A typed array's element that is known to be in range. */
function at(words: Uint32Array, index: number): number {
  return words[index] ?? 0;
}

/** Bits `from` to 31 of a word, `from` < 32. */
function maskFrom(from: number): number {
  return (0xffff_ffff << from) >>> 0;
}

/** Bits 0 to `to` - 1 of a word, 0 < `to` ≤ 32. */
function maskBelow(to: number): number {
  return 0xffff_ffff >>> (32 - to);
}

function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x5555_5555);
  v = (v & 0x3333_3333) + ((v >>> 2) & 0x3333_3333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

function lowest(word: number): number {
  return 31 - Math.clz32(word & -word);
}

export class BlockBits {
  #length: number;
  #words: Uint32Array;
  #groups: Uint32Array;
  #tops: Uint32Array;
  #count = 0;

  constructor(length: number) {
    this.#length = length;
    const { words, groups, tops } = sizesFor(length);
    this.#words = new Uint32Array(words);
    this.#groups = new Uint32Array(groups);
    this.#tops = new Uint32Array(tops);
  }

  get length(): number {
    return this.#length;
  }

  /** From now on there are so many bits, not fewer than before; those that are new are clear. */
  grow(length: number): void {
    const { words, groups, tops } = sizesFor(length);
    this.#length = length;
    this.#words = grown(this.#words, words);
    this.#groups = grown(this.#groups, groups);
    this.#tops = grown(this.#tops, tops);
  }

  /** How many bits are set. */
  get count(): number {
    return this.#count;
  }

  has(bit: number): boolean {
    return ((at(this.#words, bit >>> 5) >>> (bit & 31)) & 1) === 1;
  }

  /** Sets bits `from` to `to` - 1; returns how many were clear. */
  set(from: number, to: number): number {
    if (from >= to) return 0;
    const first = from >>> 5;
    const last = (to - 1) >>> 5;
    let added: number;
    if (first === last) {
      added = this.#or(first, maskFrom(from & 31) & maskBelow(((to - 1) & 31) + 1));
    } else {
      added = this.#or(first, maskFrom(from & 31));
      for (let index = first + 1; index < last; index += 1) added += this.#or(index, 0xffff_ffff);
      added += this.#or(last, maskBelow(((to - 1) & 31) + 1));
    }
    if (added > 0) this.#raise(from, to);
    this.#count += added;
    return added;
  }

  /** Clears bits `from` to `to` - 1; returns how many were set. */
  clear(from: number, to: number): number {
    if (from >= to) return 0;
    const first = from >>> 5;
    const last = (to - 1) >>> 5;
    let removed: number;
    if (first === last) {
      removed = this.#andNot(first, maskFrom(from & 31) & maskBelow(((to - 1) & 31) + 1));
    } else {
      removed = this.#andNot(first, maskFrom(from & 31));
      for (let index = first + 1; index < last; index += 1) removed += this.#andNot(index, 0xffff_ffff);
      removed += this.#andNot(last, maskBelow(((to - 1) & 31) + 1));
    }
    this.#count -= removed;
    return removed;
  }

  /** Is any of the bits `from` to `to` - 1 set? */
  any(from: number, to: number): boolean {
    if (from >= to) return false;
    const first = from >>> 5;
    const last = (to - 1) >>> 5;
    const head = at(this.#words, first) & maskFrom(from & 31);
    const tailMask = maskBelow(((to - 1) & 31) + 1);
    if (first === last) return (head & tailMask) !== 0;
    if (head !== 0) return true;
    for (let index = first + 1; index < last; index += 1) if (at(this.#words, index) !== 0) return true;
    return (at(this.#words, last) & tailMask) !== 0;
  }

  /** The first set bit at or after `from`, or -1. */
  nextSet(from: number): number {
    if (from >= this.length) return -1;
    let group = from >>> GROUP_SHIFT;
    let found = this.#scanGroup(group, from >>> 5, maskFrom(from & 31));
    while (found < 0) {
      group = this.#nextGroup(group + 1);
      if (group < 0) return -1;
      found = this.#scanGroup(group, group * GROUP_WORDS, 0xffff_ffff);
      if (found < 0) this.#lower(group);
    }
    return found;
  }

  /** The first clear bit at or after `from`, at most `limit`; `limit` when all before it are set. */
  nextClear(from: number, limit: number): number {
    const end = Math.min(limit, this.length);
    if (from >= end) return end;
    let index = from >>> 5;
    let clear = ~at(this.#words, index) & maskFrom(from & 31);
    while (clear === 0) {
      index += 1;
      if (index * 32 >= end) return end;
      clear = ~at(this.#words, index);
    }
    return Math.min(end, index * 32 + lowest(clear));
  }

  /** Copies `target.length` words from word `wordFrom` on; beyond the end: zeroes. */
  copyWords(wordFrom: number, target: Uint32Array): void {
    const part = this.#words.subarray(wordFrom, wordFrom + target.length);
    target.set(part);
    target.fill(0, part.length);
  }

  /** Takes the bits of `words` in addition to what is set, from word `wordFrom` on; bits beyond the length are dropped. */
  addWords(wordFrom: number, words: Uint32Array): void {
    const end = Math.min(wordFrom + words.length, this.#words.length);
    for (let index = wordFrom; index < end; index += 1) {
      let word = at(words, index - wordFrom);
      if (word === 0) continue;
      if (index * 32 + 32 > this.length) word &= maskBelow(this.length - index * 32);
      const added = this.#or(index, word);
      if (added === 0) continue;
      this.#count += added;
      this.#raise(index * 32, index * 32 + 1);
    }
  }

  #or(index: number, mask: number): number {
    const before = at(this.#words, index);
    const news = mask & ~before;
    if (news === 0) return 0;
    this.#words[index] = before | mask;
    return popcount(news);
  }

  #andNot(index: number, mask: number): number {
    const before = at(this.#words, index);
    const gone = before & mask;
    if (gone === 0) return 0;
    this.#words[index] = before & ~mask;
    return popcount(gone);
  }

  #raise(from: number, to: number): void {
    const first = from >>> GROUP_SHIFT;
    const last = (to - 1) >>> GROUP_SHIFT;
    for (let group = first; group <= last; group += 1) {
      const index = group >>> 5;
      this.#groups[index] = at(this.#groups, index) | (1 << (group & 31));
      const top = group >>> GROUP_SHIFT;
      this.#tops[top >>> 5] = at(this.#tops, top >>> 5) | (1 << (top & 31));
    }
  }

  /** The first set bit in the group from word `index` on, whose own bits are masked; or -1. */
  #scanGroup(group: number, start: number, mask: number): number {
    const end = Math.min((group + 1) * GROUP_WORDS, this.#words.length);
    let word = at(this.#words, start) & mask;
    for (let index = start; ; word = at(this.#words, index)) {
      if (word !== 0) return index * 32 + lowest(word);
      index += 1;
      if (index >= end) return -1;
    }
  }

  /** The group turned out to be empty: its summary bit goes, and the one above when it was the last. */
  #lower(group: number): void {
    const index = group >>> 5;
    this.#groups[index] = at(this.#groups, index) & ~(1 << (group & 31));
    const top = group >>> GROUP_SHIFT;
    const first = top * GROUP_WORDS;
    const end = Math.min(first + GROUP_WORDS, this.#groups.length);
    for (let word = first; word < end; word += 1) if (at(this.#groups, word) !== 0) return;
    this.#tops[top >>> 5] = at(this.#tops, top >>> 5) & ~(1 << (top & 31));
  }

  /** The first group at or after `from` whose summary bit is set, or -1. */
  #nextGroup(from: number): number {
    const groups = Math.ceil(this.length / 2 ** GROUP_SHIFT);
    let group = from;
    while (group < groups) {
      const top = group >>> GROUP_SHIFT;
      if (((at(this.#tops, top >>> 5) >>> (top & 31)) & 1) === 0) {
        group = (top + 1) << GROUP_SHIFT;
        continue;
      }
      const word = at(this.#groups, group >>> 5) & maskFrom(group & 31);
      if (word !== 0) return (group >>> 5) * 32 + lowest(word);
      group = ((group >>> 5) + 1) * 32;
    }
    return -1;
  }
}

/** How many words each level has. */
function sizesFor(length: number): { readonly words: number; readonly groups: number; readonly tops: number } {
  const groups = Math.ceil(length / 2 ** GROUP_SHIFT);
  return {
    words: Math.ceil(length / 32),
    groups: Math.ceil(groups / 32),
    tops: Math.ceil(Math.ceil(groups / 2 ** GROUP_SHIFT) / 32),
  };
}

function grown(words: Uint32Array, count: number): Uint32Array {
  const larger = new Uint32Array(count);
  larger.set(words);
  return larger;
}
