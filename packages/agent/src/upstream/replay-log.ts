/**
 * What was written, zeroed and trimmed since the last completed upstream flush, in submission order: what a
 * reconnected upstream may have lost although it was acknowledged (promise REPLAY). Pure.
 *
 * Always holds:
 *  - an entry stays until a flush that was submitted after its acknowledgement has completed;
 *  - while `complete`, every unflushed write is here; `abandon` alone ends that, until a flush has covered what it let go;
 *  - payload of acknowledged entries is held (PayloadMemory), once; that of others belongs to their request.
 *
 * Must not know: connections, time.
 */
import { Command, CommandFlag } from '@rephub/nbd';
import { type Piece } from '../ranges.js';

/** Received memory is used again once its request is completed, unless it is held. */
export interface PayloadMemory {
  hold(slices: readonly Buffer[]): void;
  release(slices: readonly Buffer[]): void;
}

export const EntryState = {
  Gone: 0,
  /** Submitted and not answered: its fate is unknown. */
  Open: 1,
  /** Acknowledged, not flushed. */
  Kept: 2,
  /** Failed for good: upstream may hold all, some or none of it, and playing older entries may change which. */
  Scar: 3,
  /** Acknowledged, and refused when it was played again: upstream may hold it all the same, so nothing older is played there. */
  Refused: 4,
} as const;
export type EntryState = (typeof EntryState)[keyof typeof EntryState];

/** What an entry costs besides its payload. */
const ENTRY_BYTES = 96;
const FIRST_CAPACITY = 256;
const NO_DATA: readonly Buffer[] = [];

export class ReplayLog {
  readonly limitBytes: number;
  readonly #memory: PayloadMemory;
  #mask = FIRST_CAPACITY - 1;
  #states = new Uint8Array(FIRST_CAPACITY);
  #commands = new Uint8Array(FIRST_CAPACITY);
  #flags = new Uint8Array(FIRST_CAPACITY);
  #offsets = new Float64Array(FIRST_CAPACITY);
  #lengths = new Float64Array(FIRST_CAPACITY);
  /** When it was acknowledged, counted in acknowledgements. */
  #stamps = new Float64Array(FIRST_CAPACITY);
  #data: (readonly Buffer[])[] = new Array<readonly Buffer[]>(FIRST_CAPACITY).fill(NO_DATA);
  /** Entries are numbered from 1 on; those from #first to #next - 1 are in the ring. */
  #first = 1;
  #next = 1;
  #stamp = 0;
  #bytes = 0;
  /** Entries that a flush may drop. */
  #flushable = 0;
  /** Those of them that were acknowledged without FUA. */
  #unstable = 0;
  /** What was acknowledged up to this stamp may not be here. */
  #holesThrough = 0;
  #flushedStamp = 0;

  /** A limit of 0: nothing is kept, and `complete` is never true. */
  constructor(limitBytes: number, memory: PayloadMemory) {
    this.limitBytes = limitBytes;
    this.#memory = memory;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Everything that is not flushed can be played. */
  get complete(): boolean {
    return this.limitBytes > 0 && this.#flushedStamp >= this.#holesThrough;
  }

  /** A flush submitted now would make room. */
  get hasFlushable(): boolean {
    return this.#flushable > 0;
  }

  /** Something acknowledged is not stable yet: neither flushed nor written with FUA. */
  get hasUnstable(): boolean {
    return this.#unstable > 0;
  }

  get isEmpty(): boolean {
    return this.#first === this.#next;
  }

  /** Number of the oldest entry, and of the one that comes next: the range to walk. */
  get firstEntry(): number {
    return this.#first;
  }

  get nextEntry(): number {
    return this.#next;
  }

  /** The acknowledgements given so far: what a flush submitted now covers. */
  get stamp(): number {
    return this.#stamp;
  }

  /** Room for a write of so many bytes. One is always let in when nothing is kept. */
  hasRoomFor(payloadBytes: number): boolean {
    return this.#bytes === 0 || this.limitBytes === 0 || this.#bytes + payloadBytes + ENTRY_BYTES <= this.limitBytes;
  }

  /** Half full: time to flush, so that nobody has to wait for it. */
  get wantsFlush(): boolean {
    return this.#bytes * 2 > this.limitBytes && this.limitBytes > 0;
  }

  /** A write is about to be sent. Returns its entry's number; 0 when nothing is kept. */
  add(command: Command, flags: number, offset: number, length: number, data: readonly Buffer[]): number {
    if (this.limitBytes === 0) return 0;
    if (this.#next - this.#first > this.#mask) this.#grow();
    const entry = this.#next++;
    const at = entry & this.#mask;
    this.#states[at] = EntryState.Open;
    this.#commands[at] = command;
    this.#flags[at] = flags;
    this.#offsets[at] = offset;
    this.#lengths[at] = length;
    // A request without payload has an empty array that its owner fills when it is used again.
    this.#data[at] = command === Command.Write ? data : NO_DATA;
    this.#bytes += this.#cost(at);
    return entry;
  }

  acknowledged(entry: number): void {
    this.#stamp++;
    if (entry < this.#first) return;
    const at = entry & this.#mask;
    if (this.#states[at] !== EntryState.Open) return;
    this.#states[at] = EntryState.Kept;
    this.#flushable++;
    if (this.#isUnstable(at)) this.#unstable++;
    this.#stamps[at] = this.#stamp;
    const data = this.#data[at] ?? NO_DATA;
    if (data.length > 0) this.#memory.hold(data);
  }

  /** An unanswered or refused one, to be submitted again later, as a new entry. */
  withdraw(entry: number): void {
    this.#drop(entry);
  }

  /** It has failed for good. */
  failed(entry: number): void {
    this.#stamp++;
    if (entry < this.#first) return;
    const at = entry & this.#mask;
    if (this.#states[at] === EntryState.Gone || this.#states[at] === EntryState.Scar) return;
    this.#letGoPayload(at);
    if (this.#states[at] === EntryState.Open) this.#flushable++;
    if (this.#isUnstable(at)) this.#unstable--;
    this.#states[at] = EntryState.Scar;
    this.#stamps[at] = this.#stamp;
  }

  /** A flush that was submitted at this stamp, when `nextEntry` was `end`, has completed. */
  flushed(stamp: number, end: number): void {
    for (let entry = this.#first; entry < end; entry++) {
      const at = entry & this.#mask;
      const state = this.#states[at];
      const isFlushable = state !== EntryState.Gone && state !== EntryState.Open;
      if (isFlushable && (this.#stamps[at] ?? 0) <= stamp) this.#drop(entry);
    }
    if (stamp > this.#flushedStamp) this.#flushedStamp = stamp;
  }

  /** Acknowledged ones that were played and have been flushed since. What else is unflushed stays as it is. */
  madeStable(entries: readonly number[]): void {
    for (const entry of entries) {
      if (this.stateOf(entry) === EntryState.Kept) this.#drop(entry);
    }
  }

  /** An acknowledged entry that upstream refuses to take again. Its range stays until a flush. */
  giveUp(entry: number): void {
    const at = entry & this.#mask;
    if (this.#states[at] !== EntryState.Kept) return;
    this.#letGoPayload(at);
    this.#states[at] = EntryState.Refused;
  }

  /** What was acknowledged and not flushed, in the order of submission. */
  *acknowledgedRanges(): Iterable<Piece> {
    for (let entry = this.#first; entry < this.#next; entry++) {
      if (this.stateOf(entry) === EntryState.Kept) yield { offset: this.offsetOf(entry), length: this.lengthOf(entry) };
    }
  }

  /** Something was written that is not here: complete again when a flush has covered it. */
  missed(): void {
    this.#stamp++;
    this.#holesThrough = this.#stamp;
  }

  /** Everything acknowledged is let go unflushed. */
  abandon(): void {
    this.#holesThrough = this.#stamp;
    for (let entry = this.#first; entry < this.#next; entry++) {
      if (this.#states[entry & this.#mask] !== EntryState.Open) this.#drop(entry);
    }
  }

  // One entry, by its number ---------------------------------------------------------------------

  stateOf(entry: number): EntryState {
    return (this.#states[entry & this.#mask] ?? EntryState.Gone) as EntryState;
  }

  commandOf(entry: number): Command {
    return (this.#commands[entry & this.#mask] ?? Command.Write) as Command;
  }

  flagsOf(entry: number): number {
    return this.#flags[entry & this.#mask] ?? 0;
  }

  offsetOf(entry: number): number {
    return this.#offsets[entry & this.#mask] ?? 0;
  }

  lengthOf(entry: number): number {
    return this.#lengths[entry & this.#mask] ?? 0;
  }

  dataOf(entry: number): readonly Buffer[] {
    return this.#data[entry & this.#mask] ?? NO_DATA;
  }

  // Inside --------------------------------------------------------------------------------------

  #isUnstable(at: number): boolean {
    const state = this.#states[at];
    const isAcknowledged = state === EntryState.Kept || state === EntryState.Refused;
    return isAcknowledged && ((this.#flags[at] ?? 0) & CommandFlag.Fua) === 0;
  }

  #cost(at: number): number {
    return ENTRY_BYTES + (this.#commands[at] === Command.Write ? (this.#lengths[at] ?? 0) : 0);
  }

  #letGoPayload(at: number): void {
    this.#bytes -= this.#cost(at);
    const data = this.#data[at] ?? NO_DATA;
    if (this.#states[at] === EntryState.Kept && data.length > 0) this.#memory.release(data);
    this.#data[at] = NO_DATA;
    // A scar keeps its range and costs no payload.
    this.#commands[at] = Command.Trim;
    this.#bytes += ENTRY_BYTES;
  }

  #drop(entry: number): void {
    if (entry < this.#first || entry >= this.#next) return;
    const at = entry & this.#mask;
    if (this.#states[at] === EntryState.Gone) return;
    this.#bytes -= this.#cost(at);
    const data = this.#data[at] ?? NO_DATA;
    if (this.#states[at] === EntryState.Kept && data.length > 0) this.#memory.release(data);
    this.#data[at] = NO_DATA;
    if (this.#states[at] !== EntryState.Open) this.#flushable--;
    if (this.#isUnstable(at)) this.#unstable--;
    this.#states[at] = EntryState.Gone;
    while (this.#first < this.#next && this.#states[this.#first & this.#mask] === EntryState.Gone) this.#first++;
  }

  #grow(): void {
    const before = { mask: this.#mask, states: this.#states, commands: this.#commands, flags: this.#flags };
    const { offsets, lengths, stamps, data } = {
      offsets: this.#offsets,
      lengths: this.#lengths,
      stamps: this.#stamps,
      data: this.#data,
    };
    const capacity = (before.mask + 1) * 2;
    this.#mask = capacity - 1;
    this.#states = new Uint8Array(capacity);
    this.#commands = new Uint8Array(capacity);
    this.#flags = new Uint8Array(capacity);
    this.#offsets = new Float64Array(capacity);
    this.#lengths = new Float64Array(capacity);
    this.#stamps = new Float64Array(capacity);
    this.#data = new Array<readonly Buffer[]>(capacity).fill(NO_DATA);
    for (let entry = this.#first; entry < this.#next; entry++) {
      const from = entry & before.mask;
      const to = entry & this.#mask;
      this.#states[to] = before.states[from] ?? 0;
      this.#commands[to] = before.commands[from] ?? 0;
      this.#flags[to] = before.flags[from] ?? 0;
      this.#offsets[to] = offsets[from] ?? 0;
      this.#lengths[to] = lengths[from] ?? 0;
      this.#stamps[to] = stamps[from] ?? 0;
      this.#data[to] = data[from] ?? NO_DATA;
    }
  }
}
