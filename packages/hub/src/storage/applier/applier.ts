/**
 * Folds layers into the base images in the background, a layer at a time, and removes the journal segments that nothing
 * needs any more.
 *
 * Always holds:
 *  - base images are synced, and what they lack is stored, before `applied` says that they hold a layer; segments go only
 *    below the position that `applied` had *before* its last change, so that its older slot is good for a restart too;
 *  - receiving never waits for it; a failed sync of a base image ends it for good, everything stays in the journal;
 *  - nothing above a pin, nothing of an open span is folded, unless the group never had a consistent point.
 * Must not know: sessions.
 */
import { asError, type Clock, Fault, type Logger, type Timer } from '@rephub/platform';
import type { AppliedFile } from '../base/applied-file.js';
import type { BaseSet } from '../base/base-set.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { SegmentSet } from '../journal/segments.js';
import type { Layer } from '../layers/layer.js';
import type { Timeline } from '../layers/timeline.js';
import { foldLayer } from './fold.js';
import { closesTop, type Holdings, PACE_MS, reasonToExpire, reasonToFold, type RetentionLimits } from './retention.js';

const RETRY_MS = 1000;
/** More layers than this are merged where nothing is pinned between them. */
const MOST_LAYERS = 24;
const MERGE_EXTENTS = 20_000;

export interface ApplierOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: RetentionLimits;
  readonly timeline: Timeline;
  readonly segments: SegmentSet;
  readonly journal: JournalReader;
  readonly base: BaseSet;
  readonly appliedFile: AppliedFile;
  readonly applied: { readonly number: number; readonly position: number };
  readonly isDiskFull: () => boolean;
  /** It has given up; everything stays in the journal. */
  readonly failed: (fault: Fault) => void;
  /** Something was removed: there may be room. */
  readonly freed: () => void;
}

export class Applier {
  readonly #options: ApplierOptions;
  #appliedNumber: number;
  #appliedPosition: number;
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;
  #waitingSinceMs: number | null = null;
  #draining = false;
  #hurry: (() => void) | null = null;
  #stopped = false;
  #fault: Fault | null = null;
  #retryAtMs = 0;

  constructor(options: ApplierOptions) {
    this.#options = options;
    this.#appliedNumber = options.applied.number;
    this.#appliedPosition = options.applied.position;
  }

  get appliedNumber(): number {
    return this.#appliedNumber;
  }

  get fault(): Fault | null {
    return this.#fault;
  }

  /** Records have become durable, a pin has gone, or the like: looks whether there is work. Cheap. */
  poke(): void {
    if (this.#running !== null || this.#stopped || this.#fault !== null) return;
    const { timeline, clock } = this.#options;
    if (timeline.layers.length === 0) return;
    const nowMs = clock.monotonicMs();
    this.#waitingSinceMs ??= nowMs;
    this.#closeTopIfDue();
    if (nowMs < this.#retryAtMs) {
      this.#wakeIn(this.#retryAtMs - nowMs);
    } else if (this.#next() !== null || (timeline.layers.length > MOST_LAYERS && timeline.mergeable)) {
      this.#running = this.#run();
    } else if (this.#paces()) {
      this.#wakeIn(this.#waitingSinceMs + PACE_MS - nowMs);
    }
  }

  /** Folds everything up to the last consistent number; views and branches in the way are expired. Throws what keeps it from that. */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#retryAtMs = 0;
    this.#hurry?.();
    try {
      for (;;) {
        await this.#running;
        if (this.#fault !== null) throw this.#fault;
        if (this.#stopped || this.#next() === null) return;
        this.#running = this.#run();
        await this.#running;
        if (this.#retryAtMs > 0) {
          throw new Fault('storage', 'disk-full', 'the base images could not be brought up to date: the disk is full');
        }
      }
    } finally {
      this.#draining = false;
    }
  }

  /** Ends after the batch under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#hurry?.();
    await this.#running;
  }

  #holdings(layer: Layer | undefined): Holdings {
    const { clock, timeline, segments } = this.#options;
    return {
      newestTimeUs: timeline.state.timeUs,
      oldestLayerTimeUs: layer?.lastTimeUs ?? Infinity,
      waitingMs: this.#waitingSinceMs === null ? 0 : clock.monotonicMs() - this.#waitingSinceMs,
      oldestLayerBytes: layer === undefined ? 0 : layer.endPosition - layer.startPosition,
      indexBytes: timeline.memory.bytes,
      journalBytes: segments.bytes,
      everConsistent: timeline.state.consistentNumber !== null,
      diskFull: this.#options.isDiskFull(),
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
    return limits.retentionMs === 0 || timeline.state.consistentNumber === null;
  }

  #closeTopIfDue(): void {
    const { limits, timeline } = this.#options;
    const top = timeline.layers[timeline.layers.length - 1];
    if (top === undefined || top.end !== null || top.records === 0) return;
    const ageUs = top.lastTimeUs - top.firstTimeUs;
    if (closesTop(limits, top.endPosition - top.startPosition, top.extents, ageUs)) timeline.closeTop();
  }

  #wakeIn(delayMs: number): void {
    if (this.#timer !== null) return;
    this.#timer = this.#options.clock.after(Math.max(1, delayMs), () => {
      this.#timer = null;
      this.poke();
    });
  }

  async #run(): Promise<void> {
    try {
      for (let layer = this.#next(); layer !== null && !this.#stopped; layer = this.#next()) {
        if (!(await this.#fold(layer))) break;
      }
      while (!this.#stopped && !this.#draining && this.#options.timeline.layers.length > MOST_LAYERS) {
        if (!this.#options.timeline.mergeStep(MERGE_EXTENTS)) break;
        await this.#breathe();
      }
    } catch (error) {
      this.#gaveUp(error);
    } finally {
      this.#running = null;
      if (!this.#draining) queueMicrotask(() => this.poke());
    }
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
    const { appliedFile, base, journal, segments, timeline } = this.#options;
    const result = await foldLayer(layer, base, journal, () => this.#stopped);
    if (result === null) return false;
    for (const image of result.touched) await image.sync();
    await this.#storeUnreadable(layer);
    const { end } = layer;
    if (end === null) throw new Error('assertion failed: a folded layer has ended');
    await appliedFile.write({ version: 1, line: timeline.line, position: layer.endPosition, point: end });
    timeline.dropOldest(layer);
    segments.removeBelow(this.#appliedPosition);
    this.#appliedNumber = layer.lastNumber;
    this.#appliedPosition = layer.endPosition;
    this.#waitingSinceMs = timeline.layers.length === 0 ? null : this.#options.clock.monotonicMs();
    this.#options.freed();
    return true;
  }

  async #storeUnreadable(layer: Layer): Promise<void> {
    const { base, timeline } = this.#options;
    const changed = timeline.unreadableAfter(layer);
    if (changed.size === 0) return;
    const all = timeline.unreadableInBase();
    for (const [volume, ranges] of changed) all.set(volume.added, ranges);
    await base.writeUnreadable(all);
  }

  #gaveUp(error: unknown): void {
    const { clock, log, timeline } = this.#options;
    const cause = asError(error);
    if (error instanceof Fault && (error.code === 'disk-full' || error.code === 'quota')) {
      this.#retryAtMs = clock.monotonicMs() + RETRY_MS;
      log.warn('apply-waits', { line: timeline.line.id, why: error.code, message: cause.message });
      return;
    }
    this.#fault = new Fault(
      'storage',
      'apply-failed',
      `the base images are not brought up to date any more: ${cause.message}`,
      { cause },
    );
    log.error('apply-failed', { line: timeline.line.id, message: cause.message });
    this.#options.failed(this.#fault);
  }
}
