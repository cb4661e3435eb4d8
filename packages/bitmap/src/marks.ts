/**
 * All marks in memory: fine bits, pending runs, hot extents, large ranges being written, and what of them the
 * disk does not hold yet. Owns the rules of promises SUPERSET and CLEAR; pure state, nothing here waits.
 *
 * Always holds:
 *  - bits ∪ pending ∪ touched blocks of hot extents ⊇ where upstream and the hub's durable content may differ;
 *  - an extent may be cooled (`canCool`) only when what it leaves behind is on the disk or proven.
 * Must not know: files, promises in the making, time.
 */
import { assert } from '@rephub/platform';
import { EXTENT_BYTES, extentAt, extentKey, extentOfKey, type Geometry, volumeOfKey } from './geometry.js';
import { HotSet, NOT_READY, PREPARING, READY } from './hot-set.js';
import type { ByteRange } from './options.js';
import { PendingRuns } from './pending.js';
import { type BlockRun, unionOfRuns } from './runs.js';
import { addToPage, pageOf, VolumeMarks } from './volume-marks.js';

/** Ranges over more extents are marked in the fine bitmap instead of made hot. */
const MAX_HOT_RANGE_EXTENTS = 64;

interface Hold {
  readonly volume: number;
  readonly from: number;
  readonly to: number;
}

/** One page and where its bits are to be put. */
export interface ComposedPage {
  readonly volume: VolumeMarks;
  readonly page: number;
  readonly words: Uint32Array;
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
  /** By volume: its tickets up to this are on stable storage upstream. */
  readonly #flushed: number[] = [];
  #durable: number;
  #lastNumber: number;
  #distrusted = false;

  constructor(geometries: readonly Geometry[], granularityBytes: number, slots: number, durable: number, last: number) {
    this.hot = new HotSet(slots, granularityBytes);
    this.#granularityBytes = granularityBytes;
    this.#maxHotRange = Math.min(MAX_HOT_RANGE_EXTENTS, slots >> 2);
    this.#durable = durable;
    this.#lastNumber = last;
    this.volumes = geometries.map((geometry) => new VolumeMarks(geometry));
    for (const volume of this.volumes) this.#byIndex[volume.geometry.index] = volume;
  }

  get durableNumber(): number {
    return this.#durable;
  }

  get lastNumber(): number {
    return this.#lastNumber;
  }

  readonly flushedTicket = (volume: number): number => this.#flushed[volume] ?? 0;

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
      if (this.#isProven(slot)) hot.forgetTouched(slot);
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
    this.volume(volume).flagAdded(from, to);
  }

  setDirty(volume: number, offset: number, length: number): void {
    if (length === 0) return;
    const from = Math.floor(offset / this.#granularityBytes);
    const to = Math.floor((offset + length - 1) / this.#granularityBytes) + 1;
    this.#setBits(volume, from, to);
  }

  // ---- copying

  nextDirty(volume: number, from: number): ByteRange | null {
    return this.volume(volume).nextDirty(from);
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
      if (this.hot.numberOf(slot) <= number || this.#isProven(slot)) continue;
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

  upstreamFlushed(volume: number, ticket: number): void {
    if (ticket <= this.flushedTicket(volume)) return;
    this.#flushed[volume] = ticket;
    this.#prove();
  }

  #isProven(slot: number): boolean {
    return this.hot.isProven(slot, this.#durable, this.#flushedOf(slot));
  }

  #flushedOf(slot: number): number {
    return this.flushedTicket(volumeOfKey(this.hot.keyOf(slot)));
  }

  /** Would a flush of upstream prove anything now? */
  waitsForFlush(): boolean {
    if (this.pending.waitsForFlush(this.#durable, this.flushedTicket)) return true;
    for (let slot = this.hot.oldest(); slot >= 0; slot = this.hot.newerThan(slot)) {
      if (this.hot.ticketOf(slot) > this.#flushedOf(slot) && this.hot.numberOf(slot) <= this.#durable) return true;
    }
    return false;
  }

  // ---- cooling

  /** May the extent be dropped from hot.log now? */
  canCool(slot: number): boolean {
    if (!this.hot.isIdle(slot)) return false;
    if (this.hot.readiness(slot) === READY) return true;
    return this.#isProven(slot) && !this.#lacksImage(slot);
  }

  /**
   * Begins to cool an idle extent: what is not proven becomes pending runs. Ready at once when the disk needs
   * nothing; else PREPARING until the pages of the extent have been written.
   */
  prepare(slot: number): void {
    const { hot } = this;
    if (!this.#isProven(slot)) {
      const number = hot.numberOf(slot);
      const ticket = hot.ticketOf(slot);
      this.#eachTouched(slot, (volume, from, to) => {
        this.pending.add(volume, from, to, number, ticket);
        this.volume(volume).flagAdded(from, to);
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

  /**
   * Puts all marks but those of hot extents into the pages' `words`; they count as being written from now on. What
   * changes afterwards is not in them: they must be handed on in the same turn.
   */
  composePages(pages: readonly ComposedPage[]): void {
    for (const { volume, page, words } of pages) volume.composePage(page, words);
    for (const { geometry } of this.volumes) {
      const ours = pages.filter(({ volume }) => volume.geometry === geometry);
      if (ours.length === 0) continue;
      const byNumber = new Map(ours.map(({ page, words }) => [page, words]));
      // A run lies in few pages as a rule; one that lies in many is looked for from the pages' side.
      for (const { from, to } of this.#runsOf(geometry.index)) {
        const [first, last] = [pageOf(from), pageOf(to - 1)];
        if (last - first >= ours.length) {
          for (const { page, words } of ours) addToPage(words, page, from, to);
          continue;
        }
        for (let page = first; page <= last; page += 1) {
          const words = byNumber.get(page);
          if (words !== undefined) addToPage(words, page, from, to);
        }
      }
    }
  }

  // ---- figures

  get dirtyBytes(): number {
    return this.volumes.reduce((sum, volume) => sum + volume.dirtyBytes, 0);
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
    const others: BlockRun[] = [...this.#runsOf(index)];
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
    this.volume(index).setBits(from, to);
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

  /** Pending and held runs of a volume. */
  *#runsOf(index: number): Generator<BlockRun> {
    yield* this.pending.of(index);
    for (const run of this.#holds) if (run.volume === index) yield run;
  }

  #prove(): void {
    this.pending.prove(this.#durable, this.flushedTicket, (run) => {
      this.volume(run.volume).flagRemoved(run.from, run.to);
      this.onStale?.();
    });
  }

  #endHold(volume: number, from: number, to: number, ticket: number, number: number): void {
    const index = this.#holds.findIndex((hold) => hold.volume === volume && hold.from === from && hold.to === to);
    assert(index >= 0, 'a large write ends only where one has begun');
    this.#holds.splice(index, 1);
    if (number > 0) this.pending.add(volume, from, to, number, ticket);
    else {
      this.volume(volume).flagRemoved(from, to);
      this.onStale?.();
    }
  }

  /** Does the extent have marks that the newest durable image of its pages may lack? */
  #lacksImage(slot: number): boolean {
    const { volume, first, last } = this.pagesOf(slot);
    if (!volume.lacksMarks(first) && (first === last || !volume.lacksMarks(last))) return false;
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
