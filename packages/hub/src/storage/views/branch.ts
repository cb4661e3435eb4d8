/**
 * A branch: a view with a layer and a journal of its own on top. What is written to it is a record of its own line.
 *
 * Always holds:
 *  - nothing of it touches the main line's journal, layers or base images (ISOLATE);
 *  - its line is durable before its first write is answered; opening a branch makes no line;
 *  - a write is answered when it is in the branch's file, FUA and flush when it is synced; a read that begins after a
 *    write was answered sees it; overlapping writes win in the order of their numbers;
 *  - once it is over it can only be dropped: after its limit or a full disk writes fail with ENOSPC, after anything
 *    else (failed journal, expired point) every request fails.
 * Must not know: the main line's sessions.
 */
import { type BlockDevice, type BlockRequest, Command, CommandFlag, NbdError } from '@rephub/nbd';
import {
  asError,
  type Clock,
  type Fault,
  type FileSystem,
  type Logger,
  type Randomness,
  randomUuid,
  uuidBytes,
} from '@rephub/platform';
import {
  chainStart,
  FRAME_OVERHEAD_BYTES,
  FrameType,
  HEADER_BYTES,
  type Line,
  RecordEncoder,
  type VolumeDescription,
} from '@rephub/protocol';
import { ExtentIndex, IndexMemory } from '../index/extent-index.js';
import { Place } from '../index/extent-leaf.js';
import { RunList } from '../index/run-list.js';
import { JournalReader } from '../journal/journal-reader.js';
import { JournalWriter } from '../journal/journal-writer.js';
import { isWantOfRoom } from '../passing-faults.js';
import type { SegmentInfo } from '../journal/segment-header.js';
import { SegmentSet } from '../journal/segments.js';
import type { Volume } from '../layers/layer.js';
import type { Branch } from '../store-types.js';
import { BranchDevice } from './branch-device.js';
import { inStretches, type RunCollector } from './point-content.js';
import type { ReadAssembly } from './read-assembly.js';
import type { PointView } from './view.js';

export interface BranchSetup {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly randomness: Randomness;
  readonly log: Logger;
  readonly group: string;
  readonly hubId: string;
  readonly name: string;
  /** GROUP/branches/NAME */
  readonly directory: string;
  readonly view: PointView;
  readonly scratchBytes: number;
  readonly segmentBytes: number;
  readonly queueBytes: number;
  /** Something was written to the disk. */
  readonly wrote: () => void;
  /** Makes the line durable in the group's decisions. */
  readonly storeLine: (line: Line) => Promise<void>;
  /** All its files are closed: removes them. */
  readonly remove: () => Promise<void>;
}

const NO_PAYLOAD: readonly Buffer[] = [];

/** A write that waits for the journal. */
interface Waiting {
  readonly request: BlockRequest;
  readonly number: number;
  readonly volume: Volume;
  readonly start: number;
  readonly end: number;
  readonly place: number;
}

export class TestBranch implements Branch {
  readonly #setup: BranchSetup;
  readonly #memory = new IndexMemory();
  readonly #indexes = new Map<Volume, ExtentIndex>();
  readonly #runs = new RunList();
  #line: Line | null = null;
  #beginning: Promise<void> | null = null;
  #segments: SegmentSet | null = null;
  #reader: JournalReader | null = null;
  #journal: JournalWriter | null = null;
  #encoder: RecordEncoder | null = null;
  /** Of the last record that was queued. */
  #timeUs = 0;
  #lastNumber = 0;
  #lastChecksum = 0;
  /** Requests that came while the line was being made. */
  #early: { readonly request: BlockRequest; readonly volume: Volume }[] = [];
  #writing: Waiting[] = [];
  #syncing: { readonly request: BlockRequest; readonly number: number }[] = [];
  #answeredNumber = 0;
  #scratchBytes = 0;
  #over: { readonly why: string; readonly error: number } | null = null;
  #listeners: ((why: string) => void)[] = [];
  #dropping: Promise<void> | null = null;
  #open = 0;
  #whenIdle: (() => void)[] = [];

  constructor(setup: BranchSetup) {
    this.#setup = setup;
    setup.view.onExpired((why) => {
      this.#end(why, NbdError.Eio);
    });
  }

  get name(): string {
    return this.#setup.name;
  }

  get number(): number {
    return this.#setup.view.number;
  }

  get agentTimeUs(): number {
    return this.#setup.view.agentTimeUs;
  }

  get volumes(): readonly VolumeDescription[] {
    return this.#setup.view.volumes;
  }

  get line(): Line | null {
    return this.#line;
  }

  get scratchBytes(): number {
    return this.#scratchBytes;
  }

  device(volumeName: string): BlockDevice {
    return new BranchDevice(this, this.#setup.view.pinned(volumeName));
  }

  onOver(listener: (why: string) => void): void {
    if (this.#over === null) this.#listeners.push(listener);
    else listener(this.#over.why);
  }

  drop(): Promise<void> {
    this.#dropping ??= this.#drop();
    return this.#dropping;
  }

  /** The disk is full, or nearly: what is only a test makes room for protection (FULL). */
  endForRoom(why: string): void {
    this.#end(why, NbdError.Enospc);
  }

  /** Takes a request for one of its volumes; called by its devices. */
  take(request: BlockRequest, volume: Volume): void {
    if (this.#over !== null && (this.#over.error !== NbdError.Enospc || changes(request.command))) {
      request.complete(this.#over.error);
      return;
    }
    switch (request.command) {
      case Command.Read: {
        const { view } = this.#setup;
        const assembly = view.assembly(request);
        this.#read(assembly, volume, request.offset, request.offset + request.length);
        assembly.end();
        return;
      }
      case Command.BlockStatus:
        this.#setup.view.status(request, (into) =>
          this.#allocation(into, volume, request.offset, request.offset + request.length),
        );
        return;
      case Command.Write:
      case Command.Trim:
      case Command.WriteZeroes:
        this.#write(request, volume);
        return;
      case Command.Flush:
        this.#open += 1;
        this.#answerWhenDurable(request, this.#answeredNumber);
        return;
      case Command.Cache:
        request.complete(NbdError.Ok);
        return;
    }
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    while (this.#open > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
    await this.#setup.view.idle();
  }

  #read(assembly: ReadAssembly, volume: Volume, start: number, end: number): void {
    const { content } = this.#setup.view;
    const index = this.#indexes.get(volume);
    if (index === undefined) {
      content.read(assembly, volume, start, end);
      return;
    }
    const runs = this.#runs;
    runs.clear();
    index.lookUp(start, end, runs);
    for (let run = 0; run < runs.count; run += 1) {
      const from = runs.start(run);
      const to = runs.end(run);
      const place = runs.place(run);
      if (place >= 0) assembly.piece(to - from, (buffer) => (this.#reader as JournalReader).read(buffer, place));
      else if (place === Place.Zero) assembly.zeroes(to - from);
      else content.read(assembly, volume, from, to);
    }
  }

  async #allocation(into: RunCollector, volume: Volume, start: number, end: number): Promise<void> {
    const { content } = this.#setup.view;
    const index = this.#indexes.get(volume);
    if (index === undefined) {
      await content.allocation(volume, start, end, into);
      return;
    }
    await inStretches(start, end, into, async (stretchFrom, stretchTo) => {
      const runs = new RunList();
      index.lookUp(stretchFrom, stretchTo, runs);
      for (let run = 0; run < runs.count && !into.full; run += 1) {
        const from = runs.start(run);
        const to = runs.end(run);
        const place = runs.place(run);
        if (place >= 0) into.data(to - from);
        else if (place === Place.Zero) into.hole(to - from);
        else await content.allocation(volume, from, to, into);
      }
      return { to: stretchTo, runs: runs.count };
    });
  }

  #write(request: BlockRequest, volume: Volume): void {
    this.#open += 1;
    if (this.#journal === null) {
      this.#early.push({ request, volume });
      this.#beginning ??= this.#begin();
      return;
    }
    this.#record(request, volume);
  }

  #record(request: BlockRequest, volume: Volume): void {
    const journal = this.#journal;
    const encoder = this.#encoder;
    if (journal === null || encoder === null || this.#over !== null) {
      this.#answer(request, this.#over?.error ?? NbdError.Eio);
      return;
    }
    const { offset, length } = request;
    const isWrite = request.command === Command.Write;
    const bytes = FRAME_OVERHEAD_BYTES + (isWrite ? length : 0);
    if (this.#scratchBytes + bytes > this.#setup.scratchBytes) {
      this.#end(`its own ${this.#setup.scratchBytes} bytes are used up`, NbdError.Enospc);
      this.#answer(request, NbdError.Enospc);
      return;
    }
    const type = isWrite ? FrameType.Write : request.command === Command.Trim ? FrameType.Discard : FrameType.Zero;
    this.#timeUs = Math.max(this.#timeUs, Math.floor(this.#setup.clock.unixMs() * 1000));
    const payload = isWrite ? request.data : NO_PAYLOAD;
    const number = encoder.encode(type, 0, volume.index, offset, length, this.#timeUs, 0, payload);
    const position = journal.append([encoder.head, ...payload, encoder.tail], bytes, number);
    this.#lastNumber = number;
    this.#lastChecksum = encoder.lastChecksum;
    this.#scratchBytes += bytes;
    const place = isWrite ? position + HEADER_BYTES : Place.Zero;
    this.#writing.push({ request, number, volume, start: offset, end: offset + length, place });
  }

  /** The first write makes the line: its identity is durable before the write is answered. */
  async #begin(): Promise<void> {
    const { clock, files, log, name, segmentBytes, queueBytes, view, directory } = this.#setup;
    try {
      const line: Line = { id: randomUuid(this.#setup.randomness), parent: { id: view.line, number: view.number } };
      const lineDirectory = `${directory}/lines/${line.id}`;
      await files.makeDirectory(lineDirectory);
      await this.#setup.storeLine(line);
      // What a test writes is read again soon, and is synced when the test flushes.
      const segments = new SegmentSet(files, lineDirectory, { recycles: false, pastCache: false });
      this.#line = line;
      this.#answeredNumber = view.number;
      this.#timeUs = view.agentTimeUs;
      this.#lastNumber = view.number;
      this.#lastChecksum = chainStart(uuidBytes(line.id));
      this.#encoder = new RecordEncoder(uuidBytes(line.id), view.number + 1, this.#lastChecksum);
      this.#segments = segments;
      this.#reader = new JournalReader(segments);
      this.#journal = new JournalWriter(
        {
          clock,
          files,
          segments,
          segmentBytes,
          queueBytes,
          syncsWhenAsked: true,
          events: {
            written: (number) => {
              this.#setup.wrote();
              this.#written(number);
            },
            durable: (number) => {
              this.#durable(number);
            },
            congested: () => undefined,
            waits: (fault) => {
              if (isWantOfRoom(fault)) this.#end('the disk is full', NbdError.Enospc);
            },
            failed: (fault: Fault) => {
              log.error('branch-failed', { branch: name, message: fault.message });
              this.#end(fault.message, NbdError.Eio);
            },
            segmentInfo: (base, previousEnd) => this.#segmentInfo(line, base, previousEnd),
          },
        },
        { position: 0, number: view.number, nextBase: 0 },
      );
    } catch (error) {
      log.error('branch-failed', { branch: name, message: asError(error).message });
      this.#end(asError(error).message, isWantOfRoom(error) ? NbdError.Enospc : NbdError.Eio);
    }
    const early = this.#early;
    this.#early = [];
    for (const { request, volume } of early) this.#record(request, volume);
  }

  #segmentInfo(line: Line, base: number, previousEnd: number): SegmentInfo {
    const { group, hubId, view } = this.#setup;
    const [number, timeUs] = [this.#lastNumber, this.#timeUs];
    const volumes = view.volumes.map((volume) => ({ ...volume, added: view.pinned(volume.name).volume.added }));
    return {
      group,
      hubId,
      line,
      base,
      previousEnd,
      before: {
        number,
        checksum: this.#lastChecksum,
        timeUs,
        spanOpen: false,
        consistentNumber: number,
        consistentTimeUs: timeUs,
        volumes,
        damage: null,
        hasSkipped: false,
      },
    };
  }

  #written(number: number): void {
    const { length } = this.#writing;
    let done = 0;
    for (; done < length; done += 1) {
      const waiting = this.#writing[done];
      if (waiting === undefined || waiting.number > number) break;
      let index = this.#indexes.get(waiting.volume);
      if (index === undefined) this.#indexes.set(waiting.volume, (index = new ExtentIndex(this.#memory)));
      index.insert(waiting.start, waiting.end, waiting.place);
    }
    const answered = this.#writing.slice(0, done);
    this.#writing = this.#writing.slice(done);
    this.#answeredNumber = Math.max(this.#answeredNumber, number);
    for (const { request, number: own } of answered) {
      if ((request.flags & CommandFlag.Fua) !== 0) this.#answerWhenDurable(request, own);
      else this.#answer(request, NbdError.Ok);
    }
  }

  #durable(number: number): void {
    const done = this.#syncing.filter((waiting) => waiting.number <= number);
    if (done.length === 0) return;
    this.#syncing = this.#syncing.filter((waiting) => waiting.number > number);
    for (const { request } of done) this.#answer(request, NbdError.Ok);
  }

  #answerWhenDurable(request: BlockRequest, number: number): void {
    if (this.#journal === null || number <= this.#journal.durableNumber) this.#answer(request, NbdError.Ok);
    else {
      this.#syncing.push({ request, number });
      this.#journal.syncThrough(number);
    }
  }

  #answer(request: BlockRequest, error: number): void {
    request.complete(error);
    this.#open -= 1;
    if (this.#open > 0) return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const wake of waiting) wake();
  }

  /** The branch takes no more writes; those that can no longer be answered fail now. */
  #end(why: string, error: number): void {
    const before = this.#over;
    // One that was only full may fail after that: then there is nothing to read any more, either.
    const isWorse = before?.error === NbdError.Enospc && error !== NbdError.Enospc;
    if (before === null || isWorse) this.#over = { why, error };
    // Also of one that took no more before: what waits for room would wait with its client for as long as there is none.
    if (error !== NbdError.Enospc || this.#journal?.full === true) this.#failWaiting(error);
    if (before !== null) return;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener(why);
  }

  #failWaiting(error: number): void {
    const waiting = [...this.#writing, ...this.#syncing];
    this.#writing = [];
    this.#syncing = [];
    for (const { request } of waiting) this.#answer(request, error);
  }

  async #drop(): Promise<void> {
    this.#listeners = [];
    this.#end('dropped', NbdError.Eshutdown);
    this.#over = { why: 'dropped', error: NbdError.Eshutdown };
    this.#failWaiting(NbdError.Eshutdown);
    await this.#beginning;
    await this.idle();
    try {
      await this.#journal?.close();
    } catch (error) {
      // What cannot be written any more is removed next.
      this.#setup.log.warn('branch-close-failed', { branch: this.name, message: asError(error).message });
    }
    await this.#segments?.close();
    await this.#setup.view.close();
    await this.#setup.remove();
  }
}

function changes(command: Command): boolean {
  return command === Command.Write || command === Command.Trim || command === Command.WriteZeroes;
}
