/**
 * Folds layers into the base images in the background, a layer at a time, and removes the journal segments that nothing
 * needs any more.
 *
 * Always holds:
 *  - `applied` says how far a fold will go before an image changes; base images are synced, and what they lack is stored,
 *    before it says that they hold a layer; segments go only below the position that its older slot names, so that either
 *    slot is good for a restart;
 *  - receiving never waits for it; what may pass is tried again (fold-waits.ts); a failed sync of a base image, or a record
 *    that does not match its checksum any more, ends it for good, everything stays in the journal;
 *  - nothing above a pin, nothing of an open span is folded, unless the group never had a consistent point.
 * Must not know: sessions.
 */
import { asError, type Clock, Fault, type Logger, type Timer } from '@rephub/platform';
import { type Applied, type AppliedFile, imagesChanged } from '../base/applied-file.js';
import type { BaseSet } from '../base/base-set.js';
import { isWhole } from '../journal/journal-check.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { SegmentSet } from '../journal/segments.js';
import type { Layer } from '../layers/layer.js';
import type { Timeline } from '../layers/timeline.js';
import { isJournalDamage } from '../passing-faults.js';
import type { MemoryShare, SharedMemory } from '../shared-memory.js';
import { FoldWaits } from './fold-waits.js';
import { foldLayer } from './fold.js';
import { closesTop, type Holdings, PACE_MS, reasonToExpire, reasonToFold, type RetentionLimits } from './retention.js';

/** More layers than this are merged where nothing is pinned between them. */
const MOST_LAYERS = 24;
const MERGE_EXTENTS = 20_000;
/** While a fold waits for room, the disk is looked at this often. */
const ROOM_LOOK_MS = 1000;

export interface ApplierOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: RetentionLimits;
  readonly timeline: Timeline;
  /** Of the memory for indexes that all groups share. */
  readonly indexes: SharedMemory;
  readonly segments: SegmentSet;
  readonly journal: JournalReader;
  readonly base: BaseSet;
  readonly appliedFile: AppliedFile;
  /** What the file says. */
  readonly applied: Applied;
  readonly isDiskFull: () => boolean;
  /** Nothing is folded for now; whoever says so pokes when that is over. */
  readonly isQuiet: () => boolean;
  readonly wantsRoom: () => Holdings['roomWanted'];
  /** Room on the disk, as of the last look; and looks again, after which it is poked. */
  readonly freeBytes: () => number;
  readonly lookAtRoom: () => void;
  /** It has given up; everything stays in the journal. */
  readonly failed: (fault: Fault) => void;
  /** Something was removed: there may be room. */
  readonly freed: () => void;
}

/** How the last good point is given up. */
export interface Dropping {
  /** Asked when it is about to go: the span that needs its room may have ended, and another one begun. */
  readonly isAllowed: () => boolean;
  /** It has gone. */
  readonly dropped: () => void;
}

export class Applier {
  readonly #options: ApplierOptions;
  readonly #index: MemoryShare;
  #applied: Applied;
  /** What the other slot of the file says: segments from there on are kept. */
  #olderPosition: number;
  /** The last good point is to be given up; null when nobody has asked for that. */
  #dropping: Dropping | null = null;
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;
  #wakesAtMs = 0;
  #waitingSinceMs: number | null = null;
  #draining = false;
  #hurry: (() => void) | null = null;
  #stopped = false;
  #fault: Fault | null = null;
  readonly #waits: FoldWaits;
  /** What is being tried. */
  #tried = { sinceMs: 0, bytes: 0 };

  constructor(options: ApplierOptions) {
    this.#options = options;
    this.#index = options.indexes.open(() => {
      this.poke();
    });
    this.#waits = new FoldWaits(options.clock, options.log, options.timeline.line.id);
    this.#applied = options.applied;
    this.#olderPosition = options.applied.position;
  }

  /** Why the images are not to be believed until all was compared; null when they are. */
  get imagesChanged(): string | null {
    return imagesChanged(this.#applied, this.#options.timeline.state.consistentNumber);
  }

  get appliedNumber(): number {
    return this.#applied.point.number;
  }

  get fault(): Fault | null {
    return this.#fault;
  }

  /** What it waits for to pass before it goes on; null while it does not wait. */
  get waitsFor(): Fault | null {
    return this.#waits.fault;
  }

  /** Records have become durable, a pin has gone, or the like: looks whether there is work. Cheap. Never throws: a bug ends applying. */
  poke(): void {
    try {
      this.#poke();
    } catch (error) {
      if (this.#fault === null) this.#gaveUp(error);
    }
  }

  #poke(): void {
    if (this.#stopped) return;
    const { timeline, clock } = this.#options;
    this.#index.use(timeline.memory.bytes);
    if (this.#running !== null || this.#fault !== null || this.#options.isQuiet()) return;
    if (timeline.layers.length === 0 && !this.#letsGo) {
      this.#waits.ended();
      return;
    }
    const nowMs = clock.monotonicMs();
    if (timeline.layers.length > 0) this.#waitingSinceMs ??= nowMs;
    this.#closeTopIfDue();
    this.#waits.sawRoom(this.#options.freeBytes());
    const { isForRoom, leftMs } = this.#waits;
    if (leftMs > 0) {
      this.#wakeIn(isForRoom ? Math.min(leftMs, ROOM_LOOK_MS) : leftMs);
    } else if (
      this.#dropping !== null ||
      this.#letsGo ||
      this.#next() !== null ||
      (timeline.layers.length > MOST_LAYERS && timeline.mergeable)
    ) {
      this.#running = this.#run();
    } else {
      this.#waits.ended();
      if (this.#paces()) this.#wakeIn((this.#waitingSinceMs ?? nowMs) + PACE_MS - nowMs);
    }
  }

  /** Folds everything up to the last consistent number; views and branches in the way are expired. Throws what keeps it from that. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#waits.hurry();
    this.#hurry?.();
    try {
      for (;;) {
        // Between the end of a run and this one's turn somebody may have begun another.
        while (this.#running !== null) await this.#running;
        if (this.#fault !== null) throw this.#fault;
        if (this.#stopped || this.#next() === null) return;
        this.#running = this.#run();
        await this.#running;
        const { fault } = this.#waits;
        if (fault !== null) {
          const said = `the base images could not be brought up to date: ${fault.message}`;
          throw new Fault('storage', fault.code, said, { cause: fault });
        }
      }
    } finally {
      this.#draining = false;
    }
  }

  /**
   * The open span may be folded before its end, and the last good point goes with that. Harmless when it is on its way, or
   * the span has ended by then.
   */
  dropLastGood(dropping: Dropping): void {
    this.#dropping = dropping;
    this.#waits.hurry();
    this.poke();
  }

  /** Ends after the batch under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#hurry?.();
    await this.#running;
    this.#index.close();
  }

  #holdings(layer: Layer | undefined): Holdings {
    const { clock, timeline, segments } = this.#options;
    return {
      newestTimeUs: timeline.state.timeUs,
      oldestLayerTimeUs: layer?.lastTimeUs ?? Infinity,
      waitingMs: this.#waitingSinceMs === null ? 0 : clock.monotonicMs() - this.#waitingSinceMs,
      oldestLayerBytes: layer === undefined ? 0 : layer.endPosition - layer.startPosition,
      index: this.#index.isFarOver ? 'far-over' : this.#index.isOver ? 'over' : 'fits',
      journalBytes: segments.bytes,
      hasLastGood: timeline.lastGood !== null,
      diskFull: this.#options.isDiskFull(),
      roomWanted: this.#options.wantsRoom(),
      draining: this.#draining,
    };
  }

  /** The layer to fold now, if any; expires pins that stand in the way of it. */
  #next(): Layer | null {
    const { limits, log, timeline } = this.#options;
    const oldest = timeline.layers[0];
    if (oldest === undefined || oldest.records === 0) return null;
    const held = this.#holdings(oldest);
    const reason = reasonToFold(limits, held);
    if (reason === null) return null;
    // What is not visible yet is not folded, whoever lets go of what.
    if (oldest.lastNumber > (timeline.lastGood ?? Infinity)) return null;
    if (oldest.lastNumber > timeline.lowestPin()) {
      const why = reasonToExpire(limits, held);
      if (why === null) return null;
      for (const pin of [...timeline.pins]) {
        if (pin.number >= oldest.lastNumber) continue;
        timeline.unpin(pin);
        log.warn('point-expired', { line: timeline.line.id, number: pin.number, why });
        pin.expire(why);
      }
    }
    return timeline.oldestFoldable(true);
  }

  #paces(): boolean {
    const { limits, timeline } = this.#options;
    const oldest = timeline.layers[0];
    if (oldest === undefined || oldest.lastNumber > timeline.foldLimit()) return false;
    return limits.retentionMs === 0 || timeline.lastGood === null;
  }

  #closeTopIfDue(): void {
    const { limits, timeline } = this.#options;
    const top = timeline.layers[timeline.layers.length - 1];
    if (top === undefined || top.end !== null || top.records === 0) return;
    const bytes = top.endPosition - top.startPosition;
    const ageUs = top.lastTimeUs - top.firstTimeUs;
    if (closesTop(limits, this.#index.limitBytes, { bytes, extents: top.extents, ageUs })) timeline.closeTop();
  }

  #wakeIn(delayMs: number): void {
    const { clock } = this.#options;
    const atMs = clock.monotonicMs() + Math.max(1, delayMs);
    if (this.#timer !== null && this.#wakesAtMs <= atMs) return;
    this.#timer?.cancel();
    this.#wakesAtMs = atMs;
    this.#timer = clock.after(Math.max(1, delayMs), () => {
      this.#timer = null;
      if (this.#waits.isForRoom) this.#options.lookAtRoom();
      this.poke();
    });
  }

  async #run(): Promise<void> {
    this.#tried = this.#trying(null);
    try {
      if (this.#dropping !== null) await this.#dropLastGood(this.#dropping);
      for (let layer = this.#next(); layer !== null && !this.#stopped; layer = this.#next()) {
        if (!(await this.#fold(layer))) break;
      }
      await this.#letGo();
      while (!this.#stopped && !this.#draining && this.#options.timeline.layers.length > MOST_LAYERS) {
        if (!this.#options.timeline.mergeStep(MERGE_EXTENTS)) break;
        await this.#breathe();
      }
      if (!this.#stopped) this.#waits.ended();
    } catch (error) {
      this.#gaveUp(error);
    } finally {
      this.#running = null;
      if (!this.#draining) queueMicrotask(() => this.poke());
    }
  }

  /** `applied` says so first, in both of its slots: an image that holds a part of a span must never be taken for a point. */
  async #dropLastGood({ isAllowed, dropped }: Dropping): Promise<void> {
    const { appliedFile, log, timeline } = this.#options;
    const last = timeline.lastGood;
    if (isAllowed()) {
      const { point } = this.#applied;
      this.#applied = { ...this.#applied, point: { ...point, consistentNumber: null, consistentTimeUs: 0 } };
      await appliedFile.write(this.#applied);
      await appliedFile.write(this.#applied);
    }
    this.#dropping = null;
    // The span may have ended meanwhile: then its end is the point, and stays.
    if (!isAllowed()) return;
    timeline.dropLastGood('the last good point was given up for a resync');
    log.warn('last-good-dropped', { line: timeline.line.id, number: last });
    dropped();
  }

  /** Lets others run between two steps; those who wait for the applier to end do not wait for that. */
  #breathe(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(0, resolve);
      this.#hurry = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** False when it was interrupted. */
  async #fold(layer: Layer): Promise<boolean> {
    this.#tried = this.#trying(layer);
    const { appliedFile, base, journal, segments, timeline } = this.#options;
    const { position, point } = this.#applied;
    const stretch = { from: position, to: layer.endPosition, checksum: point.checksum };
    if (!(await isWhole(segments, stretch, () => this.#stopped))) return false;
    await this.#foldingTo(timeline.reachOf(layer));
    const touched = await foldLayer(layer, base, journal, () => this.#stopped);
    if (touched === null) return false;
    for (const image of touched) await image.sync();
    await this.#storeUnreadable(layer);
    const { end } = layer;
    if (end === null) throw new Error('assertion failed: a folded layer has ended');
    const isPast = timeline.imagesReach > end.number;
    const applied: Applied = {
      version: 1,
      line: timeline.line,
      position: layer.endPosition,
      point: end,
      ...(isPast ? { foldingTo: timeline.imagesReach } : {}),
      images: await base.notes(),
      ...(imagesChanged(this.#applied, end.consistentNumber) === null ? {} : { changed: this.#applied.changed }),
    };
    await appliedFile.write(applied);
    timeline.dropOldest(layer);
    this.#index.use(timeline.memory.bytes);
    segments.removeBelow(this.#applied.position);
    this.#olderPosition = this.#applied.position;
    this.#applied = applied;
    this.#waitingSinceMs = timeline.layers.length === 0 ? null : this.#options.clock.monotonicMs();
    this.#options.freed();
    return true;
  }

  /** Durable before an image changes: cut short, the fold leaves images that show nothing below where it was going. */
  async #foldingTo(number: number): Promise<void> {
    const { appliedFile, timeline } = this.#options;
    if (number <= timeline.imagesReach) return;
    const applied = { ...this.#applied, foldingTo: number };
    // In both slots: one may rot.
    await appliedFile.write(applied);
    await appliedFile.write(applied);
    this.#applied = applied;
    this.#olderPosition = applied.position;
    timeline.foldingTo(number);
  }

  get #letsGo(): boolean {
    const { isDiskFull, wantsRoom } = this.#options;
    return this.#olderPosition !== this.#applied.position && (isDiskFull() || wantsRoom() !== 'nothing');
  }

  /** Where room is wanted, the segments that only the older slot needs go too: the older slot is written anew. */
  async #letGo(): Promise<void> {
    const { appliedFile, segments } = this.#options;
    const { position } = this.#applied;
    if (this.#stopped || !this.#letsGo) return;
    await appliedFile.write(this.#applied);
    this.#olderPosition = position;
    segments.removeBelow(position);
    this.#options.freed();
  }

  async #storeUnreadable(layer: Layer): Promise<void> {
    const { base, timeline } = this.#options;
    const changed = timeline.unreadableAfter(layer);
    if (changed.size === 0) return;
    const all = timeline.unreadableInBase();
    for (const [volume, ranges] of changed) {
      if (ranges.length === 0) all.delete(volume.added);
      else all.set(volume.added, ranges);
    }
    await base.writeUnreadable(all);
  }

  #trying(layer: Layer | null): { sinceMs: number; bytes: number } {
    const bytes = layer === null ? 0 : layer.endPosition - layer.startPosition;
    return { sinceMs: this.#options.clock.monotonicMs(), bytes };
  }

  #gaveUp(error: unknown): void {
    const { sinceMs, bytes } = this.#tried;
    const { clock, log, timeline } = this.#options;
    if (this.#waits.failed(error, { tookMs: clock.monotonicMs() - sinceMs, bytes })) return;
    const cause = asError(error);
    // What the disk has failed needs a person; what is damaged is judged when the group is opened anew.
    const until = isJournalDamage(error) ? 'the group is opened anew' : 'the hub is started again';
    this.#fault = new Fault(
      'storage',
      'apply-failed',
      `the base images are not brought up to date until ${until}: ${cause.message}`,
      { cause },
    );
    log.error('apply-failed', { line: timeline.line.id, message: cause.message });
    this.#options.failed(this.#fault);
  }
}
