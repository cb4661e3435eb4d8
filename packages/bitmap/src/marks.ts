/**
 * All marks in memory: fine bits, pending runs, hot extents, large ranges being written, and what of them the
 * disk does not hold yet. Owns the rules of promises SUPERSET and CLEAR; pure state, nothing here waits.
 *
 * Always holds:
 *  - bits ∪ pending ∪ touched blocks of hot extents ⊇ where upstream and the hub's durable content may differ;
 *  - a page without ADDED and WRITING has on the disk at least the bits and pending runs that it has here;
 *  - an extent may be cooled (`canCool`) only when what it leaves behind is on the disk or proven.
 * Must not know: files, promises in the making, time.
 */
import { assert } from '@rephub/platform';
import { BlockBits } from './block-bits.js';
import {
  EXTENT_BYTES,
  extentAt,
  extentKey,
  extentOfKey,
  type Geometry,
  PAGE_BLOCKS,
  PAGE_WORDS,
  volumeOfKey,
} from './geometry.js';
import { HotSet, NOT_READY, PREPARING, READY } from './hot-set.js';
import type { ByteRange } from './options.js';
import { PendingRuns } from './pending.js';
import { unionOfRuns } from './runs.js';

/** Marks were added that the newest image of the page lacks. */
const ADDED = 1;
/** An image is being written that holds more than the last durable one. */
const WRITING = 2;
/** Marks were proven that the newest image still has. */
const REMOVED = 4;

/** No run that is told is longer; whoever copies asks again. */
const MAX_RUN_BYTES = 1024 * 1024 * 1024;
/** Ranges over more extents are marked in the fine bitmap instead of made hot. */
const MAX_HOT_RANGE_EXTENTS = 64;

export interface VolumeMarks {
  readonly geometry: Geometry;
  readonly bits: BlockBits;
  readonly flags: Uint8Array;
}

interface Hold {
  readonly volume: number;
  readonly from: number;
  readonly to: number;
}

export class Marks {
  readonly hot: HotSet;
  readonly pending = new PendingRuns();
  readonly volumes: readonly VolumeMarks[];
  /** Called when a write has ended and somebody waits for an idle extent. */
  onIdle: (() => void) | null = null;
  /** Called when proof has made marks on the disk superfluous. */
  onStale: (() => void) | null = null;
  readonly #byIndex: (VolumeMarks | undefined)[] = [];
  readonly #granularityBytes: number;
  readonly #maxHotRange: number;
  readonly #holds: Hold[] = [];
  #ticket = 0;
  #flushed = 0;
  #durable: number;
  #lastNumber: number;
  #distrusted = false;

  constructor(geometries: readonly Geometry[], granularityBytes: number, slots: number, durable: number, last: number) {
    this.hot = new HotSet(slots, granularityBytes);
    this.#granularityBytes = granularityBytes;
    this.#maxHotRange = Math.min(MAX_HOT_RANGE_EXTENTS, slots >> 2);
    this.#durable = durable;
    this.#lastNumber = last;
    this.volumes = geometries.map((geometry) => ({
      geometry,
      bits: new BlockBits(geometry.blocks),
      flags: new Uint8Array(geometry.pages),
    }));
    for (const volume of this.volumes) this.#byIndex[volume.geometry.index] = volume;
  }

  get durableNumber(): number {
    return this.#durable;
  }

  get lastNumber(): number {
    return this.#lastNumber;
  }

  get flushedTicket(): number {
    return this.#flushed;
  }

  get isDistrusted(): boolean {
    return this.#distrusted;
  }

  /** From now on every write passes and nothing counts: the next start compares everything. */
  distrust(): void {
    this.#distrusted = true;
  }

  noteLastNumber(number: number): void {
    if (number > this.#lastNumber) this.#lastNumber = number;
  }

  /** Another line counts from here: exact, up or down. */
  setNumbers(durable: number, last: number): void {
    this.#durable = durable;
    this.#lastNumber = last;
  }

  volume(index: number): VolumeMarks {
    const volume = this.#byIndex[index];
    assert(volume !== undefined, `volume ${index} is tracked`);
    return volume;
  }

  // ---- writes

  /** True for a range that is marked in the fine bitmap instead of being made hot. */
  isLarge(offset: number, length: number): boolean {
    return extentAt(offset + length - 1) - extentAt(offset) >= this.#maxHotRange;
  }

  begin(volume: number, offset: number, length: number): boolean {
    if (this.#distrusted || length === 0) return true;
    const first = extentAt(offset);
    const last = extentAt(offset + length - 1);
    return last - first < this.#maxHotRange && this.hot.raiseAll(volume, first, last);
  }

  end(volume: number, offset: number, length: number, ticket: number, number: number): void {
    if (number > this.#lastNumber) this.#lastNumber = number;
    if (this.#distrusted || length === 0) return;
    const firstBlock = Math.floor(offset / this.#granularityBytes);
    const lastBlock = Math.floor((offset + length - 1) / this.#granularityBytes);
    const first = extentAt(offset);
    const last = extentAt(offset + length - 1);
    if (last - first >= this.#maxHotRange) {
      this.#endHold(volume, firstBlock, lastBlock + 1, ticket, number);
      return;
    }
    const { hot } = this;
    const perExtent = hot.blocksPerExtent;
    for (let extent = first; extent <= last; extent += 1) {
      const slot = hot.find(extentKey(volume, extent));
      assert(slot >= 0, 'an extent with a write in flight is hot');
      hot.lower(slot);
      if (number === 0) continue;
      if (hot.isProven(slot, this.#durable, this.#flushed)) hot.forgetTouched(slot);
      const base = extent * perExtent;
      const from = firstBlock > base ? firstBlock - base : 0;
      const to = lastBlock < base + perExtent ? lastBlock - base + 1 : perExtent;
      hot.touch(slot, from, to, number, ticket);
    }
    if (this.onIdle !== null) this.onIdle();
  }

  takeTicket(): number {
    this.#ticket += 1;
    return this.#ticket;
  }

  /** A range is going to be written whole: it is marked until `end`. Its pages must be durable before the write goes out. */
  hold(volume: number, offset: number, length: number): void {
    const from = Math.floor(offset / this.#granularityBytes);
    const to = Math.floor((offset + length - 1) / this.#granularityBytes) + 1;
    this.#holds.push({ volume, from, to });
    this.#flag(this.volume(volume), from, to, ADDED);
  }

  setDirty(volume: number, offset: number, length: number): void {
    if (length === 0) return;
    const from = Math.floor(offset / this.#granularityBytes);
    const to = Math.floor((offset + length - 1) / this.#granularityBytes) + 1;
    this.#setBits(volume, from, to);
  }

  // ---- copying

  nextDirty(volume: number, from: number): ByteRange | null {
    const { geometry, bits } = this.volume(volume);
    const { granularityBytes, sizeBytes } = geometry;
    if (from >= sizeBytes) return null;
    const start = bits.nextSet(Math.floor(from / granularityBytes));
    if (start < 0) return null;
    const end = bits.nextClear(start, start + MAX_RUN_BYTES / granularityBytes);
    const offset = start * granularityBytes;
    return { offset, length: Math.min(end * granularityBytes, sizeBytes) - offset };
  }

  take(volume: number, offset: number, length: number): number {
    const { geometry, bits } = this.volume(volume);
    const { granularityBytes, sizeBytes } = geometry;
    const end = offset + length;
    const isOnBlocks = offset % granularityBytes === 0 && (end % granularityBytes === 0 || end === sizeBytes);
    assert(length > 0 && isOnBlocks && end <= sizeBytes, `range ${offset}+${length} lies on blocks`);
    const from = offset / granularityBytes;
    const to = Math.ceil(end / granularityBytes);
    bits.clear(from, to);
    return this.pending.add(volume, from, to);
  }

  numbered(id: number, number: number, ticket: number): void {
    this.noteLastNumber(number);
    this.pending.numbered(id, number, ticket);
  }

  putBack(id: number): void {
    const run = this.pending.remove(id);
    if (run !== null) this.#setBits(run.volume, run.from, run.to);
  }

  putBackAbove(number: number): void {
    for (const run of this.pending.removeAbove(number)) this.#setBits(run.volume, run.from, run.to);
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) {
      if (this.hot.numberOf(slot) <= number) continue;
      this.#eachTouched(slot, (volume, from, to) => this.#setBits(volume, from, to));
      this.hot.forgetTouched(slot);
    }
  }

  /** Every block of every volume is dirty. */
  markAll(): void {
    this.pending.removeAll();
    for (const { geometry } of this.volumes) this.#setBits(geometry.index, 0, geometry.blocks);
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) this.hot.forgetTouched(slot);
  }

  // ---- proof

  hubDurable(number: number): void {
    if (number <= this.#durable) return;
    this.#durable = number;
    this.noteLastNumber(number);
    this.#prove();
  }

  upstreamFlushed(ticket: number): void {
    if (ticket <= this.#flushed) return;
    this.#flushed = ticket;
    this.#prove();
  }

  /** Would a flush of upstream prove anything now? */
  waitsForFlush(): boolean {
    if (this.pending.waitsForFlush(this.#durable, this.#flushed)) return true;
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) {
      if (this.hot.ticketOf(slot) > this.#flushed && this.hot.numberOf(slot) <= this.#durable) return true;
    }
    return false;
  }

  // ---- cooling

  /** May the extent be dropped from hot.log now? */
  canCool(slot: number): boolean {
    if (!this.hot.isIdle(slot)) return false;
    if (this.hot.readiness(slot) === READY) return true;
    return this.hot.isProven(slot, this.#durable, this.#flushed) && !this.#lacksImage(slot);
  }

  /**
   * Begins to cool an idle extent: what is not proven becomes pending runs. Ready at once when the disk needs
   * nothing; else PREPARING until the pages of the extent have been written.
   */
  prepare(slot: number): void {
    const { hot } = this;
    if (!hot.isProven(slot, this.#durable, this.#flushed)) {
      const number = hot.numberOf(slot);
      const ticket = hot.ticketOf(slot);
      this.#eachTouched(slot, (volume, from, to) => {
        this.pending.add(volume, from, to, number, ticket);
        this.#flag(this.volume(volume), from, to, ADDED);
      });
    }
    hot.forgetTouched(slot);
    hot.setReadiness(slot, this.#lacksImage(slot) ? PREPARING : READY);
  }

  /** First and last page that hold the extent's blocks. */
  pagesOf(slot: number): { readonly volume: VolumeMarks; readonly first: number; readonly last: number } {
    const key = this.hot.keyOf(slot);
    const volume = this.volume(volumeOfKey(key));
    const from = extentOfKey(key) * this.hot.blocksPerExtent;
    const to = Math.min(from + this.hot.blocksPerExtent, volume.geometry.blocks);
    return { volume, first: pageOf(from), last: pageOf(to - 1) };
  }

  // ---- pages

  /** Must the page be written before what it was asked for is durable? */
  lacksMarks(volume: VolumeMarks, page: number): boolean {
    return ((volume.flags[page] ?? 0) & (ADDED | WRITING)) !== 0;
  }

  /** Is the newest image of the page different from what is true now? */
  isStale(volume: VolumeMarks, page: number): boolean {
    return ((volume.flags[page] ?? 0) & (ADDED | REMOVED)) !== 0;
  }

  /** Puts bits ∪ pending ∪ held of a page into `words`; it counts as being written from now on. */
  composePage(volume: VolumeMarks, page: number, words: Uint32Array): void {
    volume.bits.copyWords(page * PAGE_WORDS, words);
    const start = page * PAGE_BLOCKS;
    const overlay = (run: Hold): void => {
      if (run.volume !== volume.geometry.index) return;
      setWords(words, Math.max(run.from - start, 0), Math.min(run.to - start, PAGE_BLOCKS));
    };
    for (const run of this.pending) overlay(run);
    for (const run of this.#holds) overlay(run);
    const flags = volume.flags[page] ?? 0;
    volume.flags[page] = (flags & ADDED) !== 0 ? WRITING : flags & WRITING;
  }

  /** The image that `composePage` made is durable. */
  pageWritten(volume: VolumeMarks, page: number): void {
    volume.flags[page] = (volume.flags[page] ?? 0) & ~WRITING;
  }

  /** Takes the bits of a page in as recovery found them on the disk. */
  loadPage(volume: VolumeMarks, page: number, words: Uint32Array): void {
    volume.bits.addWords(page * PAGE_WORDS, words);
  }

  // ---- figures

  get dirtyBytes(): number {
    return this.volumes.reduce((sum, volume) => sum + dirtyBytesOf(volume), 0);
  }

  get pendingBytes(): number {
    return this.pending.blocks * this.#granularityBytes;
  }

  hasMarks(): boolean {
    return this.#distrusted || this.hot.used > 0 || this.pending.count > 0 || this.#holds.length > 0 || this.anyDirty();
  }

  anyDirty(index?: number): boolean {
    if (index !== undefined) return this.volume(index).bits.count > 0;
    return this.volumes.some(({ bits }) => bits.count > 0);
  }

  /** Dirty ∪ pending ∪ held ∪ hot of a volume, in order. */
  *runs(index: number): Generator<ByteRange> {
    const { geometry, bits } = this.volume(index);
    const { granularityBytes, sizeBytes, blocks } = geometry;
    const others = [...this.pending, ...this.#holds]
      .filter((run) => run.volume === index)
      .map(({ from, to }) => ({ from, to }));
    const perExtent = this.hot.blocksPerExtent;
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) {
      const key = this.hot.keyOf(slot);
      const from = extentOfKey(key) * perExtent;
      if (volumeOfKey(key) === index) others.push({ from, to: Math.min(from + perExtent, blocks) });
    }
    if (this.#distrusted) others.push({ from: 0, to: blocks });
    for (const { from, to } of unionOfRuns(bits, others)) {
      const offset = from * granularityBytes;
      yield { offset, length: Math.min(to * granularityBytes, sizeBytes) - offset };
    }
  }

  /** Recovery found the extent hot: it is hot again, and all of it needs to be copied. */
  restoreHot(slot: number, key: number): void {
    this.hot.restore(slot, key);
    const { blocks } = this.volume(volumeOfKey(key)).geometry;
    const from = extentOfKey(key) * this.hot.blocksPerExtent;
    if (from < blocks) this.#setBits(volumeOfKey(key), from, Math.min(from + this.hot.blocksPerExtent, blocks));
  }

  isTracked(key: number): boolean {
    const volume = this.#byIndex[volumeOfKey(key)];
    return volume !== undefined && extentOfKey(key) * EXTENT_BYTES < volume.geometry.sizeBytes;
  }

  #setBits(index: number, from: number, to: number): void {
    const volume = this.volume(index);
    if (volume.bits.set(from, to) > 0) this.#flag(volume, from, to, ADDED);
    const perExtent = this.hot.blocksPerExtent;
    const first = Math.floor(from / perExtent);
    const last = Math.floor((to - 1) / perExtent);
    if (last - first < this.#maxHotRange) {
      for (let extent = first; extent <= last; extent += 1) {
        const slot = this.hot.find(extentKey(index, extent));
        if (slot >= 0) this.hot.setReadiness(slot, NOT_READY);
      }
      return;
    }
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) {
      if (volumeOfKey(this.hot.keyOf(slot)) === index) this.hot.setReadiness(slot, NOT_READY);
    }
  }

  #flag(volume: VolumeMarks, from: number, to: number, flag: number): void {
    const last = pageOf(to - 1);
    for (let page = pageOf(from); page <= last; page += 1) volume.flags[page] = (volume.flags[page] ?? 0) | flag;
  }

  #prove(): void {
    this.pending.prove(this.#durable, this.#flushed, (run) => {
      this.#flag(this.volume(run.volume), run.from, run.to, REMOVED);
      this.onStale?.();
    });
  }

  #endHold(volume: number, from: number, to: number, ticket: number, number: number): void {
    const index = this.#holds.findIndex((hold) => hold.volume === volume && hold.from === from && hold.to === to);
    assert(index >= 0, 'a large write ends only where one has begun');
    this.#holds.splice(index, 1);
    if (number > 0) this.pending.add(volume, from, to, number, ticket);
    else {
      this.#flag(this.volume(volume), from, to, REMOVED);
      this.onStale?.();
    }
  }

  /** Does the extent have marks that the newest durable image of its pages may lack? */
  #lacksImage(slot: number): boolean {
    const { volume, first, last } = this.pagesOf(slot);
    if (!this.lacksMarks(volume, first) && (first === last || !this.lacksMarks(volume, last))) return false;
    const { index, blocks } = volume.geometry;
    const from = extentOfKey(this.hot.keyOf(slot)) * this.hot.blocksPerExtent;
    const to = Math.min(from + this.hot.blocksPerExtent, blocks);
    return volume.bits.any(from, to) || this.pending.intersects(index, from, to);
  }

  #eachTouched(slot: number, tell: (volume: number, from: number, to: number) => void): void {
    const key = this.hot.keyOf(slot);
    const base = extentOfKey(key) * this.hot.blocksPerExtent;
    for (let run = this.hot.nextTouched(slot, 0); run >= 0; run = this.hot.nextTouched(slot, run % 2048)) {
      tell(volumeOfKey(key), base + Math.floor(run / 2048), base + (run % 2048));
    }
  }
}

function pageOf(block: number): number {
  return Math.floor(block / PAGE_BLOCKS);
}

function dirtyBytesOf({ geometry, bits }: VolumeMarks): number {
  const { granularityBytes, sizeBytes, blocks } = geometry;
  const beyond = bits.has(blocks - 1) ? blocks * granularityBytes - sizeBytes : 0;
  return bits.count * granularityBytes - beyond;
}

/** Sets bits `from` to `to` - 1 of a page's words; nothing when the range is empty. */
function setWords(words: Uint32Array, from: number, to: number): void {
  for (let bit = from; bit < to;) {
    const until = Math.min(to, (bit | 31) + 1);
    const mask = (0xffff_ffff >>> (32 - (until - bit))) << (bit & 31);
    words[bit >>> 5] = (words[bit >>> 5] ?? 0) | mask;
    bit = until;
  }
}
