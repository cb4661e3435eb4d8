/**
 * The layers of one line, all volumes at one number: takes records as they become durable, knows what is visible, and
 * keeps what is open from being folded.
 *
 * Always holds:
 *  - only durable records are in a layer, so whatever is found here survives a power cut;
 *  - a number at which something is open (a pin) is the end of a layer, or lies before the oldest one;
 *  - nothing of an open span is visible; `state.consistentNumber` is the newest number that can be opened (LASTGOOD).
 * Must not know: files, journals, base images.
 */
import { assert } from '@rephub/platform';
import { FrameType, type Line } from '@rephub/protocol';
import { Extent, ExtentIndex, IndexMemory } from '../index/extent-index.js';
import { Place } from '../index/extent-leaf.js';
import type { Resolver } from '../index/resolver.js';
import { LineState } from '../line-state.js';
import type { Point } from '../point.js';
import { Layer, Volume } from './layer.js';
import type { PendingRecord } from './pending-records.js';

export interface PinnedVolume {
  readonly volume: Volume;
  readonly sizeBytes: number;
}

/** A point that is held open. */
export interface Pin {
  readonly number: number;
  readonly timeUs: number;
  readonly volumes: readonly PinnedVolume[];
  /** A hard limit takes the point away; called at most once, after that the pin is gone. */
  readonly expire: (why: string) => void;
}

/** Two neighbours that are becoming one. */
interface Merge {
  readonly older: Layer;
  readonly newer: Layer;
  /** Volumes that have moved wholly, and how far the next one has. */
  readonly done: Set<Volume>;
  offset: number;
}

export class Timeline {
  readonly line: Line;
  readonly memory: IndexMemory;
  readonly state: LineState;
  /** Oldest first; the last one may be open. */
  readonly layers: Layer[] = [];
  /** What the base images cannot hold: ranges that upstream could not read. */
  readonly baseUnreadable = new Map<Volume, ExtentIndex>();
  readonly #volumes = new Map<number, Volume>();
  readonly #pins = new Set<Pin>();
  #position: number;
  #imagesReach: number;
  #merge: Merge | null = null;
  #droppedLastGood = false;
  /** The volumes at the consistent number, while a span is open or records are missing. */
  #volumesBeforeSpan: readonly PinnedVolume[] = [];

  /** `unreadable` lists, per number of adding, the ranges that the base images lack. */
  constructor(
    line: Line,
    applied: Point,
    position: number,
    imagesReach: number,
    memory: IndexMemory,
    unreadable: ReadonlyMap<number, readonly (readonly [number, number])[]>,
  ) {
    this.line = line;
    this.memory = memory;
    this.state = new LineState(line, applied);
    this.#position = position;
    this.#imagesReach = imagesReach;
    for (const { index, name, added, sizeBytes } of applied.volumes) {
      const volume = new Volume(index, name, added, sizeBytes, new ExtentIndex(memory));
      this.#volumes.set(index, volume);
      const ranges = unreadable.get(added) ?? [];
      if (ranges.length === 0) continue;
      const inBase = new ExtentIndex(memory);
      for (const [start, end] of ranges) {
        inBase.insert(start, end, Place.Unreadable);
        volume.unreadable.insert(start, end, Place.Unreadable);
      }
      this.baseUnreadable.set(volume, inBase);
    }
    // Should the base hold a part of an open span, or what came after damage, its earlier points are gone with it.
    if (applied.spanOpen || applied.damage !== null) this.#volumesBeforeSpan = this.#volumesNow();
  }

  get volumes(): Iterable<Volume> {
    return this.#volumes.values();
  }

  /** The base images may hold parts of the records up to this number. */
  get imagesReach(): number {
    return this.#imagesReach;
  }

  /** The newest point that can be opened; null when there is none. */
  get lastGood(): number | null {
    return this.shown(this.state.consistentNumber);
  }

  /** This consistent number, if the base images hold nothing that came after it; null otherwise. */
  shown(consistentNumber: number | null): number | null {
    return consistentNumber === null || consistentNumber < this.#imagesReach ? null : consistentNumber;
  }

  /** How far the base images reach once this, the oldest, layer is folded: a merge may have moved a part of the next one down. */
  reachOf(layer: Layer): number {
    return this.#merge?.older === layer ? this.#merge.newer.lastNumber : layer.lastNumber;
  }

  /** The base images are about to take records up to this number. */
  foldingTo(number: number): void {
    this.#imagesReach = Math.max(this.#imagesReach, number);
  }

  get pins(): ReadonlySet<Pin> {
    return this.#pins;
  }

  /** Journal position after the last record taken. */
  get position(): number {
    return this.#position;
  }

  /** Takes the next record. `name` comes with a VolumeAdded. */
  take(record: PendingRecord, name: string | null): void {
    const { type } = record;
    if (type === FrameType.SpanBegin && !this.state.spanOpen) {
      // Behind damage they are those from before it: what came since is not visible, either.
      if (this.state.damage === null) this.#volumesBeforeSpan = this.#volumesNow();
      this.closeTop();
    }
    const layer = this.#top();
    const volume = this.#volumes.get(record.volume);
    const end = record.offset + record.length;
    switch (type) {
      case FrameType.Write:
        this.#insert(layer, volume, record.offset, end, record.payloadPlace);
        break;
      case FrameType.Zero:
      case FrameType.Discard:
        this.#insert(layer, volume, record.offset, end, Place.Zero);
        break;
      case FrameType.Unreadable:
        this.#insert(layer, volume, record.offset, end, Place.Unreadable);
        break;
      case FrameType.Resize:
        if (volume !== undefined) this.#resize(layer, volume, record.length);
        break;
      case FrameType.VolumeAdded: {
        const added = new Volume(record.volume, name ?? '', record.number, record.length, new ExtentIndex(this.memory));
        this.#volumes.set(record.volume, added);
        layer.changes.push({ kind: 'added', volume: added, sizeBytes: record.length });
        break;
      }
      case FrameType.VolumeRemoved:
        if (volume !== undefined) {
          this.#volumes.delete(record.volume);
          layer.changes.push({ kind: 'removed', volume, sizeBytes: 0 });
        }
        break;
      default:
        break;
    }
    this.state.advance(record, name);
    this.#position = record.endPosition;
    layer.endPosition = record.endPosition;
    layer.lastNumber = record.number;
    layer.lastTimeUs = this.state.timeUs;
    layer.records += 1;
    // A later volume may have the name of the one that went: its changes belong into another layer.
    if (type === FrameType.VolumeRemoved || type === FrameType.SpanEnd) this.closeTop();
  }

  /** Ends the top layer, if it holds anything. */
  closeTop(): void {
    const top = this.layers[this.layers.length - 1];
    if (top === undefined || top.end !== null || top.records === 0) return;
    top.end = this.state.point();
  }

  /** Records after the last one taken were lost: what comes next lies in another layer, and is not visible until it is whole. */
  markDamage(damage: string): void {
    if (!this.state.spanOpen) this.#volumesBeforeSpan = this.#volumesNow();
    this.closeTop();
    this.state.damage = damage;
  }

  /**
   * Gives the last good point up, so that an open span may be folded before its end: whatever is open at it or before it
   * is told and let go. The base images must not hold anything of the span yet.
   */
  dropLastGood(why: string): void {
    const last = this.lastGood;
    assert(this.state.spanOpen && last !== null, 'the last good point is given up for an open span');
    for (const pin of [...this.#pins]) {
      if (pin.number > last) continue;
      this.#pins.delete(pin);
      pin.expire(why);
    }
    this.state.dropConsistent();
    this.#droppedLastGood = true;
    // Also of history: what is stored when a layer has been folded must not name a point any more.
    for (const layer of this.layers) {
      if (layer.end !== null) layer.end = { ...layer.end, consistentNumber: null, consistentTimeUs: 0 };
    }
  }

  /** An operator gave it up, and no span has ended since. */
  get lastGoodDropped(): boolean {
    return this.#droppedLastGood && this.state.consistentNumber === null;
  }

  /** A seed is for that size, whatever became of the volume since. What is folded has its image. */
  sizeWhenAdded({ added, sizeBytes }: Volume): number {
    const changes = this.layers.flatMap((layer) => layer.changes);
    const adding = changes.find(({ kind, volume }) => kind === 'added' && volume.added === added);
    return adding?.sizeBytes ?? sizeBytes;
  }

  /** What lies under this volume's name is an earlier volume's, whose removal has not been folded: it has no image yet. */
  isNameTaken({ name, added }: Volume): boolean {
    return this.layers.some(({ changes }) =>
      changes.some(({ kind, volume }) => kind === 'removed' && volume.name === name && volume.added < added),
    );
  }

  /** Holds the newest consistent point open; null when there is none. */
  pinLatest(expire: (why: string) => void): Pin | null {
    const { consistentTimeUs, spanOpen } = this.state;
    const number = this.lastGood;
    if (number === null) return null;
    const hidden = spanOpen || this.state.damage !== null;
    if (!hidden) this.closeTop();
    const volumes = hidden ? this.#volumesBeforeSpan : this.#volumesNow();
    const pin = { number, timeUs: consistentTimeUs, volumes, expire };
    this.#pins.add(pin);
    return pin;
  }

  /** Keeps everything above the newest number, visible or not, from being folded, for who has looked something up in this turn. */
  pinNow(expire: (why: string) => void): Pin {
    const pin = { number: this.state.number, timeUs: this.state.timeUs, volumes: [], expire };
    this.#pins.add(pin);
    return pin;
  }

  unpin(pin: Pin): void {
    this.#pins.delete(pin);
  }

  /** The lowest number that is held open; Infinity when none is. */
  lowestPin(): number {
    let lowest = Infinity;
    for (const pin of this.#pins) lowest = Math.min(lowest, pin.number);
    return lowest;
  }

  /** Numbers above this one may not be folded into the base. */
  foldLimit(): number {
    return Math.min(this.lowestPin(), this.lastGood ?? Infinity);
  }

  /** The oldest layer when it may be folded; the open one is closed for it if `closing`. */
  oldestFoldable(closing: boolean): Layer | null {
    const layer = this.layers[0];
    if (layer === undefined || layer.records === 0 || layer.lastNumber > this.foldLimit()) return null;
    if (layer.end === null) {
      if (!closing) return null;
      this.closeTop();
    }
    return layer;
  }

  /** The base images hold the oldest layer now. */
  dropOldest(layer: Layer): void {
    assert(this.layers[0] === layer, 'only the oldest layer is dropped');
    if (this.#merge?.older === layer) this.#merge = null;
    for (const [volume, ranges] of this.unreadableAfter(layer)) {
      let index = this.baseUnreadable.get(volume);
      if (index === undefined) this.baseUnreadable.set(volume, (index = new ExtentIndex(this.memory)));
      index.clear();
      for (const [start, end] of ranges) index.insert(start, end, Place.Unreadable);
      if (ranges.length === 0) this.baseUnreadable.delete(volume);
    }
    this.layers.shift();
    layer.clear();
  }

  /** What the base images lack now, per number of adding. */
  unreadableInBase(): Map<number, (readonly [number, number])[]> {
    const all = new Map<number, (readonly [number, number])[]>();
    for (const [volume, index] of this.baseUnreadable) all.set(volume.added, rangesOf(index));
    return all;
  }

  /** What the base images will lack once this, the oldest, layer is folded: only volumes for which that changes. */
  unreadableAfter(layer: Layer): Map<Volume, (readonly [number, number])[]> {
    const changed = new Map<Volume, (readonly [number, number])[]>();
    const extent = new Extent();
    const scratch = new ExtentIndex(new IndexMemory());
    const removed = new Set(layer.changes.filter(({ kind }) => kind === 'removed').map(({ volume }) => volume));
    for (const volume of removed) if (this.baseUnreadable.has(volume)) changed.set(volume, []);
    for (const [volume, index] of layer.indexes) {
      if (removed.has(volume)) continue;
      const before = this.baseUnreadable.get(volume);
      let touched = false;
      scratch.clear();
      for (let more = before?.seek(0, extent) ?? false; more; more = before?.next(extent) ?? false) {
        scratch.insert(extent.start, extent.end, Place.Unreadable);
      }
      for (let more = index.seek(0, extent); more; more = index.next(extent)) {
        if (extent.place === Place.Unreadable) {
          scratch.insert(extent.start, extent.end, Place.Unreadable);
          touched = true;
        } else if (before !== undefined) {
          scratch.erase(extent.start, extent.end);
          touched = true;
        }
      }
      if (!touched) continue;
      changed.set(volume, rangesOf(scratch));
    }
    return changed;
  }

  /**
   * Moves up to `most` extents of a layer down into the one below it, where nothing is pinned between them; the two are one
   * when all have moved. Readers find the same before, between and after. False when there is nothing to merge.
   */
  mergeStep(most: number): boolean {
    const merge = this.#pendingMerge();
    if (merge === null) return false;
    const { older, newer } = merge;
    const extent = new Extent();
    let left = most;
    for (const [volume, index] of newer.indexes) {
      if (merge.done.has(volume)) continue;
      let into = older.indexes.get(volume);
      if (into === undefined) older.indexes.set(volume, (into = new ExtentIndex(this.memory)));
      let more = index.seek(merge.offset, extent);
      for (; more && left > 0; more = index.next(extent)) {
        into.insert(extent.start, extent.end, extent.place);
        merge.offset = extent.end;
        left -= 1;
      }
      if (more) return true;
      merge.done.add(volume);
      merge.offset = 0;
    }
    older.take(newer);
    this.layers.splice(this.layers.indexOf(newer), 1);
    newer.clear();
    this.#merge = null;
    return true;
  }

  /** True when two layers could become one. */
  get mergeable(): boolean {
    return this.#pendingMerge() !== null;
  }

  #pendingMerge(): Merge | null {
    this.#merge ??= this.#nextMerge();
    return this.#merge;
  }

  /** The neighbouring pair of layers that is the cheapest to merge. */
  #nextMerge(): Merge | null {
    const pinned = new Set<number>();
    for (const pin of this.#pins) pinned.add(pin.number);
    const visible = this.lastGood ?? Infinity;
    let best: Merge | null = null;
    let cost = Infinity;
    for (let at = 0; at + 1 < this.layers.length; at += 1) {
      const older = this.layers[at] as Layer;
      const newer = this.layers[at + 1] as Layer;
      if (newer.end === null || pinned.has(older.lastNumber)) continue;
      // The last visible point must stay an end of a layer while a span lies above it.
      if (older.lastNumber <= visible && newer.lastNumber > visible) continue;
      if (older.changes.some((change) => change.kind === 'removed')) continue;
      const extents = newer.extents + older.extents / 4;
      if (extents >= cost) continue;
      cost = extents;
      best = { older, newer, done: new Set(), offset: 0 };
    }
    return best;
  }

  /** Looks [start, end) of a volume up in the layers up to `number`; gaps that stay are the base image's. */
  resolve(resolver: Resolver, number: number, volume: Volume, start: number, end: number): void {
    resolver.begin(start, end);
    const { layers } = this;
    for (let at = layers.length - 1; at >= 0 && resolver.gaps; at -= 1) {
      const layer = layers[at] as Layer;
      if (layer.lastNumber > number) continue;
      const index = layer.indexes.get(volume);
      if (index !== undefined) resolver.fill(index);
    }
    if (!resolver.gaps) return;
    const unreadable = this.baseUnreadable.get(volume);
    if (unreadable !== undefined) resolver.fill(unreadable);
  }

  #top(): Layer {
    const top = this.layers[this.layers.length - 1];
    if (top !== undefined && top.end === null) return top;
    const fresh = new Layer(this.#position, this.state.number, this.state.timeUs);
    this.layers.push(fresh);
    return fresh;
  }

  #insert(layer: Layer, volume: Volume | undefined, start: number, end: number, place: number): void {
    assert(volume !== undefined, 'a checked record has its volume');
    let index = layer.indexes.get(volume);
    if (index === undefined) layer.indexes.set(volume, (index = new ExtentIndex(this.memory)));
    index.insert(start, end, place);
    if (place === Place.Unreadable) volume.unreadable.insert(start, end, place);
    else if (volume.unreadable.count > 0) volume.unreadable.erase(start, end);
  }

  #resize(layer: Layer, volume: Volume, sizeBytes: number): void {
    // What is cut off reads as zeroes should the volume grow again.
    if (sizeBytes < volume.sizeBytes) this.#insert(layer, volume, sizeBytes, volume.sizeBytes, Place.Zero);
    volume.sizeBytes = sizeBytes;
    layer.changes.push({ kind: 'resized', volume, sizeBytes });
  }

  #volumesNow(): PinnedVolume[] {
    return [...this.#volumes.values()].map((volume) => ({ volume, sizeBytes: volume.sizeBytes }));
  }
}

function rangesOf(index: ExtentIndex): (readonly [number, number])[] {
  const ranges: (readonly [number, number])[] = [];
  const extent = new Extent();
  for (let more = index.seek(0, extent); more; more = index.next(extent)) ranges.push([extent.start, extent.end]);
  return ranges;
}
