/**
 * One volume's fine bits, and per page what of them the disk does not hold yet. Pure state.
 *
 * Always holds: a page for which `lacksMarks` is false has on the disk every bit that is set here, and what was
 * flagged by `flagAdded` and is still added to its images.
 * Must not know: why a bit is set, hot extents, files.
 */
import { BlockBits } from './block-bits.js';
import { type Geometry, PAGE_BLOCKS, PAGE_WORDS } from './geometry.js';
import type { ByteRange } from './options.js';

/** Marks were added that the newest image of the page lacks. */
const ADDED = 1;
/** An image is being written that holds more than the last durable one. */
const WRITING = 2;
/** Marks were proven that the newest image still has. */
const REMOVED = 4;

/** No run that is told is longer; whoever copies asks again. */
const MAX_RUN_BYTES = 1024 * 1024 * 1024;

export class VolumeMarks {
  readonly bits: BlockBits;
  #geometry: Geometry;
  #flags: Uint8Array;

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
    this.bits = new BlockBits(geometry.blocks);
    this.#flags = new Uint8Array(geometry.pages);
  }

  get geometry(): Geometry {
    return this.#geometry;
  }

  /** The volume has become larger. What is new is marked, and so is the block in which it begins: the disk holds that already. */
  grow(geometry: Geometry): void {
    const from = firstNewBlock(this.#geometry);
    this.#geometry = geometry;
    this.bits.grow(geometry.blocks);
    this.bits.set(from, geometry.blocks);
    const flags = new Uint8Array(geometry.pages);
    flags.set(this.#flags);
    this.#flags = flags;
  }

  get dirtyBytes(): number {
    const { granularityBytes, sizeBytes, blocks } = this.geometry;
    const beyond = this.bits.has(blocks - 1) ? blocks * granularityBytes - sizeBytes : 0;
    return this.bits.count * granularityBytes - beyond;
  }

  nextDirty(from: number): ByteRange | null {
    const { granularityBytes, sizeBytes } = this.geometry;
    if (from >= sizeBytes) return null;
    const start = this.bits.nextSet(Math.floor(from / granularityBytes));
    if (start < 0) return null;
    const end = this.bits.nextClear(start, start + MAX_RUN_BYTES / granularityBytes);
    const offset = start * granularityBytes;
    return { offset, length: Math.min(end * granularityBytes, sizeBytes) - offset };
  }

  setBits(from: number, to: number): void {
    if (this.bits.set(from, to) > 0) this.flagAdded(from, to);
  }

  /** Marks other than bits were added in these blocks. */
  flagAdded(from: number, to: number): void {
    this.#flag(from, to, ADDED);
  }

  /** Marks of these blocks may be superfluous on the disk. */
  flagRemoved(from: number, to: number): void {
    this.#flag(from, to, REMOVED);
  }

  /** May the newest durable image of the page lack a mark? */
  lacksMarks(page: number): boolean {
    return ((this.#flags[page] ?? 0) & (ADDED | WRITING)) !== 0;
  }

  /** Is the newest image of the page different from what is true now? */
  isStale(page: number): boolean {
    return ((this.#flags[page] ?? 0) & (ADDED | REMOVED)) !== 0;
  }

  /** Puts the bits of a page into `words`; the page counts as being written from now on. */
  composePage(page: number, words: Uint32Array): void {
    this.bits.copyWords(page * PAGE_WORDS, words);
    const flags = this.#flags[page] ?? 0;
    this.#flags[page] = (flags & ADDED) !== 0 ? WRITING : flags & WRITING;
  }

  /** The image that `composePage` made is durable. */
  pageWritten(page: number): void {
    this.#flags[page] = (this.#flags[page] ?? 0) & ~WRITING;
  }

  /** Takes the bits of a page in as recovery found them on the disk. */
  loadPage(page: number, words: Uint32Array): void {
    this.bits.addWords(page * PAGE_WORDS, words);
  }

  #flag(from: number, to: number, flag: number): void {
    const last = pageOf(to - 1);
    for (let page = pageOf(from); page <= last; page += 1) this.#flags[page] = (this.#flags[page] ?? 0) | flag;
  }
}

/** The first block that holds a byte which a volume of this geometry does not have. */
export function firstNewBlock({ sizeBytes, granularityBytes }: Geometry): number {
  return Math.floor(sizeBytes / granularityBytes);
}

/** The page that holds the block. */
export function pageOf(block: number): number {
  return Math.floor(block / PAGE_BLOCKS);
}

/** Sets the bits of blocks `from` to `to` - 1 that lie in the page. */
export function addToPage(words: Uint32Array, page: number, fromBlock: number, toBlock: number): void {
  const from = Math.max(fromBlock - page * PAGE_BLOCKS, 0);
  const to = Math.min(toBlock - page * PAGE_BLOCKS, PAGE_BLOCKS);
  for (let bit = from; bit < to;) {
    const until = Math.min(to, (bit | 31) + 1);
    const mask = (0xffff_ffff >>> (32 - (until - bit))) << (bit & 31);
    words[bit >>> 5] = (words[bit >>> 5] ?? 0) | mask;
    bit = until;
  }
}
