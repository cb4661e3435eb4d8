/**
 * Runs scripts of writes, copies and proof against a real tracker on a simulated disk and against the model,
 * crashes the disk at a given I/O, opens again and judges what is found.
 */
import { EventEmitter } from 'node:events';
import { type ByteRange, Tracker, type TrackerOptions } from '@rephub/bitmap';
import { asError } from '@rephub/platform';
import { type CrashFate, SeededRandomness, SimClock, SimFiles, SimulatedCrash } from '@rephub/platform/sim';
import { Model, type ModelCopy, type ModelWrite, type VolumeShape } from './bitmap-model.js';

const EXTENT_BYTES = 4 * 1024 * 1024;
export const DIRECTORY = '/state';

export type Step =
  /** Writes that go at the same time; `kind` decides what becomes of each: a record, a mark, or still in flight. */
  | { readonly do: 'write'; readonly ranges: readonly Range[]; readonly kind: 'record' | 'mark' | 'stay' }
  /** What stayed in flight ends, with records. */
  | { readonly do: 'end' }
  | { readonly do: 'copy'; readonly count: number; readonly then: 'number' | 'wait' | 'put-back' }
  /** Hub and upstream have everything, or one of them; the hub all but the newest `behind` records, upstream one volume. */
  | {
      readonly do: 'prove';
      readonly hub: boolean;
      readonly flush: boolean;
      readonly behind?: number;
      readonly volume?: number;
    }
  | { readonly do: 'lose-records' }
  | { readonly do: 'cool' }
  | { readonly do: 'wait' }
  | { readonly do: 'note' }
  | { readonly do: 'mark-all' }
  | { readonly do: 'restart'; readonly clean: boolean };

export interface Range {
  readonly volume: number;
  readonly offset: number;
  readonly length: number;
}

export interface Setting {
  readonly volumes: readonly (VolumeShape & { readonly name: string })[];
  readonly granularityBytes: number;
  readonly hotExtents: number;
}

interface Copy {
  readonly id: number;
  readonly model: ModelCopy;
}

interface Flight extends Range {
  readonly model: ModelWrite;
}

export class World {
  readonly model: Model;
  readonly files: SimFiles;
  readonly #setting: Setting;
  readonly #clock = new SimClock();
  readonly #randomness = new SeededRandomness(5);
  #tracker: Tracker | null = null;
  #number = 10;
  #ticket = 0;
  #flights: Flight[] = [];
  #copies: Copy[] = [];
  #sessions = 0;

  constructor(setting: Setting, files: SimFiles) {
    this.#setting = setting;
    this.files = files;
    this.model = new Model(setting.volumes, setting.granularityBytes);
  }

  get tracker(): Tracker {
    if (this.#tracker === null) throw new Error('no tracker is open');
    return this.#tracker;
  }

  async open(): Promise<void> {
    this.#tracker = await Tracker.open(
      { files: this.files, clock: this.#clock, randomness: this.#randomness },
      optionsOf(this.#setting),
    );
    if (this.#tracker.identity.session <= this.#sessions) throw new Error('the session number did not rise');
    this.#sessions = this.#tracker.identity.session;
    this.#ticket = 0;
  }

  /** Runs the steps; false when the disk crashed on the way. */
  async run(steps: readonly Step[]): Promise<boolean> {
    try {
      if (this.#tracker === null) await this.open();
      for (const step of steps) {
        this.#allowMarked();
        await this.#step(step);
        if (this.files.crashed) return false;
      }
      return true;
    } catch (thrown) {
      if (thrown instanceof SimulatedCrash || this.files.crashed) return false;
      throw thrown;
    }
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'write':
        this.#endSome();
        await Promise.all(step.ranges.map((range, index) => this.#write(range, step.kind, index % 8)));
        return;
      case 'end':
        for (const flight of this.#flights.splice(0)) this.#end(flight, true);
        return;
      case 'copy':
        for (let index = 0; index < step.count; index += 1) this.#copy(step.then);
        return;
      case 'prove':
        this.#prove(step.hub, step.flush, step.behind ?? 0, step.volume ?? null);
        return;
      case 'lose-records':
        this.model.putBackAbove(this.tracker.identity.durableNumber);
        this.tracker.putBackAbove(this.tracker.identity.durableNumber);
        this.#copies = [];
        return;
      case 'cool':
        await this.tracker.coolIdle();
        this.model.allowNothing();
        this.#allowMarked();
        return;
      case 'wait':
        await this.#clock.advance(1000);
        return;
      case 'note':
        await this.tracker.saveIdentity({ notes: { paused: String(this.#number) } });
        return;
      case 'mark-all':
        for (const { index, sizeBytes } of this.#setting.volumes) this.model.allow(index, 0, sizeBytes);
        await this.tracker.markAll();
        this.model.markAll();
        this.#copies = [];
        return;
      case 'restart':
        await this.#restart(step.clean);
    }
  }

  async #write(range: Range, kind: 'record' | 'mark' | 'stay', turnsLater: number): Promise<void> {
    const { volume, offset, length } = range;
    const extents = Math.floor((offset + length - 1) / EXTENT_BYTES) - Math.floor(offset / EXTENT_BYTES) + 1;
    if (extents > this.#setting.hotExtents / 4) this.model.allow(volume, offset, length);
    else this.model.allow(volume, Math.floor(offset / EXTENT_BYTES) * EXTENT_BYTES, extents * EXTENT_BYTES);
    // Some come while a transaction is under way.
    for (let turn = 0; turn < turnsLater; turn += 1) await Promise.resolve();
    if (!this.tracker.begin(volume, offset, length)) await this.tracker.activate(volume, offset, length);
    const flight = { ...range, model: this.model.begin(volume, offset, length) };
    if (kind === 'stay') this.#flights.push(flight);
    else this.#end(flight, kind === 'record');
  }

  /** Writes that stay in flight hold slots; enough must be left for the others. */
  #endSome(): void {
    const held = this.#flights.reduce((sum, { length }) => sum + Math.ceil(length / EXTENT_BYTES) + 1, 0);
    if (held > this.#setting.hotExtents / 4) for (const flight of this.#flights.splice(0)) this.#end(flight, true);
  }

  #end({ volume, offset, length, model }: Flight, hasRecord: boolean): void {
    this.#ticket = this.tracker.takeTicket();
    if (hasRecord) this.#number += 1;
    else this.tracker.setDirty(volume, offset, length);
    const number = hasRecord ? this.#number : 0;
    this.model.end(model, this.#ticket, number);
    this.tracker.end(volume, offset, length, this.#ticket, number);
  }

  #copy(then: 'number' | 'wait' | 'put-back'): void {
    for (const { index } of this.#setting.volumes) {
      const run = this.tracker.nextDirty(index, 0);
      if (run === null) continue;
      const length = Math.min(run.length, 1024 * 1024);
      const copy = {
        id: this.tracker.take(index, run.offset, length),
        model: this.model.take(index, run.offset, length),
      };
      if (then === 'put-back') {
        this.tracker.putBack(copy.id);
        this.model.putBack(copy.model);
      } else this.#copies.push(copy);
      break;
    }
    if (then !== 'number') return;
    for (const copy of this.#copies.splice(0)) {
      this.#number += 1;
      copy.model.number = this.#number;
      copy.model.ticket = this.#ticket;
      this.tracker.numbered(copy.id, this.#number, this.#ticket);
    }
  }

  #prove(hub: boolean, flush: boolean, behind: number, volume: number | null): void {
    for (const { index } of flush ? this.#setting.volumes : []) {
      if (volume !== null && index !== volume) continue;
      this.model.upstreamFlushed(index, this.#ticket);
      this.tracker.upstreamFlushed(index, this.#ticket);
    }
    if (hub) {
      this.model.hubDurable(this.#number - behind);
      this.tracker.hubDurable(this.#number - behind);
    }
  }

  async #restart(clean: boolean): Promise<void> {
    if (clean) {
      for (const flight of this.#flights.splice(0)) this.#end(flight, true);
      const isClean = await this.tracker.closeClean(this.#number);
      const marked = this.#setting.volumes.some(({ index }) => [...this.tracker.runs(index)].length > 0);
      if (isClean === marked && !this.files.crashed)
        throw new Error(`closeClean says ${isClean}, marks are left: ${marked}`);
    } else await this.tracker.close();
    this.#flights = [];
    this.#copies = [];
    this.#tracker = null;
    await this.open();
    this.model.restart();
    if (clean) this.model.allowNothing();
    this.#allowMarked();
  }

  /** What the tracker says that a crash would find may be found. */
  #allowMarked(): void {
    for (const { index } of this.#setting.volumes) {
      for (const run of this.tracker.runs(index)) this.model.allow(index, run.offset, run.length);
    }
  }
}

function optionsOf(setting: Setting): TrackerOptions {
  const { volumes, granularityBytes, hotExtents } = setting;
  const events = new EventEmitter();
  return {
    directory: DIRECTORY,
    group: 'vm1',
    volumes,
    granularityBytes,
    hotExtents,
    hooks: { wantsFlush: () => events.emit('flush'), failed: () => events.emit('failed') },
  };
}

/** A disk with a state in which nothing is marked. */
export async function cleanDisk(setting: Setting): Promise<SimFiles> {
  const files = new SimFiles();
  const tracker = await Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(5) },
    optionsOf(setting),
  );
  for (const { index } of setting.volumes) {
    for (let run = tracker.nextDirty(index, 0); run !== null; run = tracker.nextDirty(index, 0)) {
      tracker.numbered(tracker.take(index, run.offset, run.length), 1, 0);
    }
  }
  tracker.hubDurable(1);
  if (!(await tracker.closeClean(1))) throw new Error('the clean disk is not clean');
  return files;
}

export interface Found {
  readonly tracker: Tracker;
  readonly marks: ReadonlyMap<number, Uint8Array>;
}

/** Opens the state on a disk as the next process would, and notes what is marked. */
export async function reopen(setting: Setting, files: SimFiles): Promise<Found> {
  const tracker = await Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(6) },
    optionsOf(setting),
  );
  return { tracker, marks: marksOf(setting, (index) => tracker.runs(index)) };
}

function marksOf(setting: Setting, runs: (volume: number) => Iterable<ByteRange>): Map<number, Uint8Array> {
  return new Map(
    setting.volumes.map(({ index, sizeBytes }) => {
      const blocks = new Uint8Array(Math.ceil(sizeBytes / setting.granularityBytes));
      for (const { offset, length } of runs(index)) {
        blocks.fill(1, offset / setting.granularityBytes, Math.ceil((offset + length) / setting.granularityBytes));
      }
      return [index, blocks];
    }),
  );
}

export interface CrashPlan {
  readonly setting: Setting;
  readonly disk: SimFiles;
  readonly steps: readonly Step[];
  /** The I/O that does not happen any more, counted from the opening; Infinity: none. */
  readonly point: number;
  readonly fate: CrashFate;
  readonly seed: number;
  /** After the first crash: the I/O of the next opening that does not happen either. */
  readonly secondPoint?: number;
}

/** Runs the script up to the crash, opens again and judges; returns whether the script was cut. Throws with the promise broken. */
export async function crashOnce(plan: CrashPlan): Promise<boolean> {
  const { setting, steps, point, fate, seed } = plan;
  const files = plan.disk.crash({ seed: 1, fate: 'keep' });
  files.crashAt(point);
  const world = new World(setting, files);
  const isWhole = await world.run(steps);
  let after = files.crash({ seed, fate });
  if (plan.secondPoint !== undefined) {
    after.crashAt(plan.secondPoint);
    await reopen(setting, after).catch((thrown: unknown) => {
      if (!after.crashed) throw asError(thrown);
    });
    after = after.crash({ seed: seed + 1, fate });
  }
  // The second opening finds what the first has left: repaired pages, a new transaction.
  for (let opening = 0; opening < (fate === 'tear' || fate === 'garble' ? 2 : 1); opening += 1) {
    const { tracker, marks } = await reopen(setting, after);
    if (tracker.found === 'untrusted') throw new Error(`NOFULL: untrusted: ${tracker.foundReason}`);
    const broken = world.model.judge(marks, tracker.identity.restsOn);
    if (broken !== null) throw new Error(broken);
    await tracker.close();
  }
  return !isWhole;
}
