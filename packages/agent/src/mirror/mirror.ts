/**
 * The mirror of one group: turns completed writes into numbered records, keeps them in the window until
 * the hub has them durably, and hands them to the link. Where a write cannot become a record, its range
 * is set dirty instead: nothing is ever in neither place (promises ORD, BOUND, SUPERSET).
 *
 * Always holds: only this file numbers records; numbers rise by one, but for a SpanBegin after a window
 * that was given up; `tracker` knows every range that the hub may lack.
 *
 * Must not know: NBD, sockets' addresses, how a handshake goes (hub-session.ts tells the outcome).
 */
import { type Tracker } from '@rephub/bitmap';
import { type Clock, type Logger, ProtocolFault } from '@rephub/platform';
import { carriesRange, encodeBody, FRAME_OVERHEAD_BYTES, FrameFlag, FrameType, RecordEncoder } from '@rephub/protocol';
import { type Packer } from '../compression/packer.js';
import { Gathering } from './gathering.js';
import { mirrorCounters, type MirrorEvents } from './mirror-events.js';
import { type FrameTarget, RecordWindow } from './record-window.js';
import { isStreamed, stepStream, type StreamEvent, type StreamState } from './stream-state.js';

/** Where records go while the link is up. */
export interface RecordTarget extends FrameTarget {
  readonly congested: boolean;
}

const NO_DATA: readonly Buffer[] = [];
/** How long the next span waits after one that was outrun by the guest; doubles each time. */
const HOLD_OFF_MIN_MS = 200;
const HOLD_OFF_MAX_MS = 10_000;

export class Mirror {
  readonly window: RecordWindow;
  /**
   * Rises whenever an answer that the hub gave before may no longer tell what it will hold: a write was not streamed or its
   * fate is not known, or the hub's numbers began anew.
   */
  disruptions = 0;
  readonly counters = mirrorCounters();
  readonly packer: Packer;
  readonly #clock: Clock;
  readonly #tracker: Tracker;
  readonly #events: MirrorEvents;
  readonly #log: Logger;
  readonly #encoder: RecordEncoder;
  readonly #gathering: Gathering;
  #state: StreamState;
  #target: RecordTarget | null = null;
  /** Added to the monotonic clock gives the agent time, in ms; moved only forward. */
  #unixOffsetMs: number;
  #receivedNumber = 0;
  #durableNumber = 0;
  #gapSinceMs: number | null = null;
  /** No span begins before this: a guest that outruns the link must not make gap and span alternate. */
  #spanNotBeforeMs = 0;
  #holdOffMs = 0;
  #spanEndNumber = 0;
  #exposureKnown: boolean;

  constructor(parts: {
    clock: Clock;
    tracker: Tracker;
    events: MirrorEvents;
    log: Logger;
    packer: Packer;
    windowBytes: number;
    hasHub: boolean;
    /** 16 bytes: the line that records belong to. */
    line: Uint8Array;
    /** No earlier process has left writes that the hub may lack. */
    exposureKnown: boolean;
  }) {
    this.#clock = parts.clock;
    this.#tracker = parts.tracker;
    this.#events = parts.events;
    this.#log = parts.log;
    this.packer = parts.packer;
    this.#encoder = new RecordEncoder(parts.line, 1, 0);
    this.#exposureKnown = parts.exposureKnown;
    this.window = new RecordWindow(parts.windowBytes);
    this.#gathering = new Gathering(parts.clock, () => this.pump());
    this.#state = parts.hasHub ? 'gap' : 'off';
    this.#unixOffsetMs = parts.clock.unixMs() - parts.clock.monotonicMs();
  }

  get state(): StreamState {
    return this.#state;
  }

  /** The highest number given on this line, as far as this process knows. */
  get lastNumber(): number {
    return this.#encoder.nextNumber - 1;
  }

  /** The span's end is on its way: until it is durable the hub offers nothing newer than what was before the span. */
  get spanEnding(): boolean {
    return this.#state === 'streaming' && this.#spanEndNumber > 0;
  }

  /** Header checksum of that record. */
  get lastChecksum(): number {
    return this.#encoder.lastChecksum;
  }

  get durableNumber(): number {
    return this.#durableNumber;
  }

  /**
   * Age in ms of the oldest write that is not in a consistent durable point at the hub; 0 when there is none; null
   * while it is not known what an earlier process left (promise RPO).
   */
  exposedMs(): number | null {
    if (!this.#exposureKnown) return null;
    const now = this.#clock.monotonicMs();
    const oldest = this.window.oldestBornMs;
    const since = Math.min(oldest ?? Infinity, this.#gapSinceMs ?? Infinity);
    return since === Infinity ? 0 : Math.max(0, now - since);
  }

  /**
   * A write, zeroing or discard that upstream has taken, under its range lock: becomes a record, or its
   * range is set dirty. Returns the record's number, 0 when there is none.
   */
  written(type: FrameType, volume: number, offset: number, length: number, data: readonly Buffer[]): number {
    if (!isStreamed(this.#state)) {
      this.#markOnly(volume, offset, length);
      return 0;
    }
    const payloadBytes = type === FrameType.Write ? length : 0;
    if (!this.window.hasRoomFor(payloadBytes)) {
      this.#pullAhead();
      this.#markOnly(volume, offset, length);
      return 0;
    }
    return this.#append(type, 0, 0, volume, offset, length, data, payloadBytes);
  }

  #pullAhead(): void {
    const inSpan = this.#state === 'span';
    this.#holdOffMs = inSpan ? Math.min(Math.max(2 * this.#holdOffMs, HOLD_OFF_MIN_MS), HOLD_OFF_MAX_MS) : 0;
    this.#spanNotBeforeMs = this.#clock.monotonicMs() + this.#holdOffMs;
    this.#log.warn('pulled-ahead', { windowBytes: this.window.bytes, spanInMs: this.#holdOffMs });
    this.#move('lost-a-write');
  }

  /** Content that was read from upstream, under its range lock. Returns 0, and does nothing, when it cannot be sent now. */
  copied(
    type: FrameType,
    tag: number,
    volume: number,
    offset: number,
    length: number,
    data: readonly Buffer[],
  ): number {
    const payloadBytes = type === FrameType.Write ? length : 0;
    if (!isStreamed(this.#state) || !this.window.hasRoomFor(payloadBytes)) return 0;
    this.counters.copiedBytes += payloadBytes;
    const flags = type === FrameType.Unreadable ? 0 : FrameFlag.Copied | (tag === 0 ? 0 : FrameFlag.Answer);
    return this.#append(type, flags, tag, volume, offset, length, data, payloadBytes);
  }

  /** The guest's flush was completed here. */
  flushMarker(): void {
    if (isStreamed(this.#state) && this.window.count > 0 && this.window.hasRoomFor(0)) {
      this.#append(FrameType.Flush, 0, 0, 0, 0, 0, NO_DATA, 0);
    }
  }

  /** A write whose fate upstream is not known, or that is not to be streamed: dirty, and a span will copy it (FAILWR). */
  unknown(volume: number, offset: number, length: number): void {
    this.disruptions++;
    this.#tracker.setDirty(volume, offset, length);
    this.#gapSinceMs ??= this.#clock.monotonicMs();
    if (this.#state === 'streaming') this.#move('lost-a-write');
    this.wantSpan();
  }

  /** Makes every block dirty, durably, to be sent again in a span; `cause` is for the log. */
  async copyEverything(cause: string): Promise<void> {
    this.disruptions++;
    this.#log.info('copy-everything', { cause });
    this.#gapSinceMs ??= this.#clock.monotonicMs();
    if (isStreamed(this.#state)) this.#move('lost-a-write');
    await this.#tracker.markAll();
  }

  // Spans ---------------------------------------------------------------------------------------

  /** Begins or continues a span; `mostBytes` is what it may bring, null when nobody knows. */
  beginSpan(cause: string, mostBytes: number | null): void {
    const known = mostBytes === null ? {} : { expectedBytes: mostBytes };
    const payload = encodeBody({ cause, continues: this.#spanEndNumber === -1, ...known });
    this.#append(FrameType.SpanBegin, 0, 0, 0, 0, 0, [payload], payload.length);
    this.#spanEndNumber = -1;
    this.#move('span-begun');
  }

  /** Nothing is dirty any more: the replica is consistent from this record on. */
  endSpan(): void {
    this.#holdOffMs = 0;
    this.#spanEndNumber = this.#append(FrameType.SpanEnd, 0, 0, 0, 0, 0, NO_DATA, 0);
    this.#move('span-ended');
  }

  announceVolume(index: number, name: string, sizeBytes: number): void {
    const payload = encodeBody({ name });
    this.#append(FrameType.VolumeAdded, 0, 0, index, 0, sizeBytes, [payload], payload.length);
  }

  announceSize(index: number, sizeBytes: number): void {
    this.#append(FrameType.Resize, 0, 0, index, 0, sizeBytes, NO_DATA, 0);
  }

  announceRemoval(index: number): void {
    this.#append(FrameType.VolumeRemoved, 0, 0, index, 0, 0, NO_DATA, 0);
  }

  // The link ------------------------------------------------------------------------------------

  /** The hub holds exactly what the window's records before its last number say: the rest is sent again. */
  resume(hubLastNumber: number): void {
    this.acknowledged(hubLastNumber, hubLastNumber);
  }

  /** Hub and upstream are equal and the hub's last record is this one. */
  inStep(hubLastNumber: number, hubLastChecksum: number): void {
    this.#continueAfter(hubLastNumber, hubLastChecksum);
    this.#exposureKnown = true;
    this.#move(this.#tracker.anyDirty() ? 'lost-a-write' : 'in-step');
  }

  /**
   * The window is of no use to this hub: what it held is dirty. The next record is a SpanBegin with a
   * number above all that was ever given, chained to the hub's last record.
   */
  restartAfter(hubLastChecksum: number, nextNumber: number): void {
    this.giveUpWindow();
    this.#continueAfter(nextNumber - 1, hubLastChecksum);
  }

  /** What the window holds will not reach the hub as it is: all of it is dirty. */
  giveUpWindow(): void {
    if (this.window.count > 0) this.#gapSinceMs ??= this.window.oldestBornMs;
    this.window.abandon((volume, offset, length) => {
      this.#tracker.setDirty(volume, offset, length);
    });
    this.#tracker.putBackAbove(0);
    this.#spanEndNumber = 0;
    this.#move('window-abandoned');
  }

  #continueAfter(number: number, checksum: number): void {
    this.disruptions++;
    this.#encoder.skipTo(number + 1, checksum);
    this.#receivedNumber = 0;
    this.#durableNumber = 0;
  }

  /**
   * The hub lacks writes that nobody here remembers the age of. None was made before `sinceMs` of the monotonic clock; null:
   * nobody knows, until a span has ended.
   */
  exposedSince(sinceMs: number | null): void {
    if (sinceMs !== null) this.#gapSinceMs = Math.min(this.#gapSinceMs ?? Infinity, sinceMs);
    this.#exposureKnown = sinceMs !== null;
  }

  /** Agent time does not go back along the line, though this host's clock may have been set back before its start. */
  notBefore(agentTimeUs: number): void {
    this.#encoder.notBefore(agentTimeUs);
  }

  /** Records flow to `target` from now on, from the oldest in the window. */
  linkUp(target: RecordTarget): void {
    this.window.rewind();
    this.#target = target;
    this.pump();
    this.#events.stepChanged();
    this.wantSpan();
  }

  linkDown(): void {
    this.#target = null;
    this.window.rewind();
    this.#events.stepChanged();
    // Writes that waited for room wait no longer: with nobody to make room, the window is pulled ahead of.
    this.#events.roomMade();
  }

  get linked(): boolean {
    return this.#target !== null;
  }

  /** Somebody waits for the hub to have what was written: nothing is gathered any longer. */
  hurry(): void {
    if (this.window.unsentCount > 0) this.#gathering.leave();
  }

  /** Sends what is unsent, as far as the connection takes it. */
  pump(): void {
    const target = this.#target;
    if (target === null) return;
    while (this.window.unsentCount > 0 && !target.congested) this.counters.sentBytes += this.window.sendNext(target);
  }

  /**
   * Throws a ProtocolFault `ack-beyond` when the hub cannot have what it acknowledges: believing it would clear
   * marks and drop records that no hub has (promise CLEAR).
   */
  checkAcknowledged(received: number, durable: number): void {
    const sent = this.window.count === 0 ? this.lastNumber : this.window.sentThrough;
    if (received <= sent && durable <= received) return;
    throw new ProtocolFault(
      'ack-beyond',
      `hub acknowledges ${received} received and ${durable} durable, sent was ${sent}`,
    );
  }

  /** The hub has received and made durable up to these numbers. */
  acknowledged(received: number, durable: number): void {
    if (received > this.#receivedNumber) {
      this.#receivedNumber = received;
      if (durable <= this.#durableNumber) this.#events.acknowledged(received, this.#durableNumber);
    }
    if (durable <= this.#durableNumber) return;
    this.#durableNumber = durable;
    this.window.dropThrough(durable);
    this.#tracker.hubDurable(durable);
    this.#events.acknowledged(this.#receivedNumber, durable);
    if (this.#spanEndNumber > 0 && durable >= this.#spanEndNumber) {
      this.#spanEndNumber = 0;
      if (this.#state === 'streaming') {
        this.#gapSinceMs = null;
        this.#exposureKnown = true;
      }
      this.#events.spanDurable();
    }
    this.#events.roomMade();
    this.wantSpan();
  }

  /** Asks for a span when one is due and possible. */
  wantSpan(): void {
    const wanted = this.#state === 'gap' || (this.#state === 'streaming' && this.#tracker.anyDirty());
    if (!wanted || this.#target === null || this.window.bytes > this.window.limitBytes / 2) return;
    if (this.#clock.monotonicMs() >= this.#spanNotBeforeMs) this.#events.spanWanted();
  }

  /** Streaming ends here, by the operator's or the lineage table's word: writes are only marked from now on. */
  leaveStep(): void {
    if (isStreamed(this.#state)) this.#move('lost-a-write');
  }

  /** At the orderly end: what the hub has not acknowledged is dirty. */
  setAside(): void {
    this.#target = null;
    this.window.abandon((volume, offset, length) => {
      this.#tracker.setDirty(volume, offset, length);
    });
    this.#tracker.putBackAbove(this.#durableNumber);
  }

  /** Mirroring is broken: no more records; marks go on (promise FAIL-OPEN). */
  fail(fault: unknown): void {
    if (this.#state === 'stopped' || this.#state === 'off') return;
    this.#gapSinceMs ??= this.window.oldestBornMs ?? this.#clock.monotonicMs();
    this.#move('failed');
    this.#events.failed(fault);
  }

  // Inside --------------------------------------------------------------------------------------

  #markOnly(volume: number, offset: number, length: number): void {
    this.disruptions++;
    this.#tracker.setDirty(volume, offset, length);
    if (this.#state === 'off') return;
    this.counters.pulledAheadBytes += length;
    this.#gapSinceMs ??= this.#clock.monotonicMs();
  }

  #append(
    type: FrameType,
    flags: number,
    tag: number,
    volume: number,
    offset: number,
    length: number,
    data: readonly Buffer[],
    payloadBytes: number,
  ): number {
    const nowMs = this.#clock.monotonicMs();
    const encoder = this.#encoder;
    const previousChecksum = encoder.lastChecksum;
    const raw = payloadBytes > 0 ? data : NO_DATA;
    const isPacked = this.packer.on && type === FrameType.Write;
    const packed = isPacked ? this.packer.pack(raw, payloadBytes, encoder.nextNumber) : null;
    const bytes = packed?.bytes ?? payloadBytes;
    const timeUs = Math.floor((nowMs + this.#unixOffsetMs) * 1000);
    const number = encoder.encode(type, flags, volume, offset, length, timeUs, tag, raw, packed);
    const ranged = carriesRange(type) ? length : 0;
    this.window.push(
      number,
      volume,
      offset,
      ranged,
      previousChecksum,
      nowMs,
      encoder.head,
      packed?.slices ?? raw,
      encoder.tail,
      bytes,
    );
    this.counters.records++;
    this.counters.streamedBytes += bytes + FRAME_OVERHEAD_BYTES;
    if (this.#target !== null) this.#gathering.add(bytes + FRAME_OVERHEAD_BYTES);
    return number;
  }

  /** Follows the wall clock; agent time still never goes back. */
  adjustTime(): void {
    this.#unixOffsetMs = this.#clock.unixMs() - this.#clock.monotonicMs();
  }

  #move(event: StreamEvent): void {
    const next = stepStream(this.#state, event);
    if (next === this.#state) return;
    this.#log.info('stream-state', { from: this.#state, to: next, why: event });
    this.#state = next;
    this.#events.stepChanged();
  }
}
