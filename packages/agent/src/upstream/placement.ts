/**
 * Binds each range of a disk to one of several connections that do not see each other's writes: a range is
 * always written, read and flushed through the same one. Requests that reach over an edge are cut there.
 */
import { BlockRequest, Command, type Completion, cutSlices, NbdError } from '@rephub/nbd';

/** Larger than what any server caches as one piece, and a multiple of every block size. */
export const PLACE_BYTES = 4 * 1024 * 1024;

/** The place, from 0 on, that the byte at `offset` is bound to. */
export function placeOf(offset: number, places: number): number {
  return Math.floor(offset / PLACE_BYTES) % places;
}

export function crossesPlaces(request: BlockRequest): boolean {
  if (request.command === Command.Flush) return false;
  const within = request.offset % PLACE_BYTES;
  return within + request.length > PLACE_BYTES;
}

/** So many parts are under way at once: zeroing a terabyte has a quarter of a million. */
const PARTS_UNDER_WAY = 16;

/** One request as several, each within one place. Rare enough to allocate. */
export class CutRequest implements Completion {
  readonly #outer: BlockRequest;
  readonly #submit: (part: BlockRequest) => void;
  readonly #end: number;
  /** Of a read, in order: their data is put together at the end. */
  readonly #reads: BlockRequest[] = [];
  #next: number;
  #underWay = 0;
  #error: number = NbdError.Ok;
  #sending = false;

  constructor(outer: BlockRequest, submit: (part: BlockRequest) => void) {
    this.#outer = outer;
    this.#submit = submit;
    this.#next = outer.offset;
    // Extents may stop short of what was asked.
    const isStatus = outer.command === Command.BlockStatus;
    this.#end = isStatus ? endOfPlace(outer.offset) : outer.offset + outer.length;
  }

  start(): void {
    this.#sending = true;
    while (this.#error === 0 && this.#next < this.#end && this.#underWay < PARTS_UNDER_WAY) {
      this.#underWay++;
      this.#submit(this.#part());
    }
    this.#sending = false;
    if (this.#underWay === 0) this.#done();
  }

  #part(): BlockRequest {
    const outer = this.#outer;
    const part = new BlockRequest(this);
    part.command = outer.command;
    part.flags = outer.flags;
    part.offset = this.#next;
    part.length = Math.min(endOfPlace(this.#next), this.#end) - this.#next;
    part.contexts = outer.contexts;
    if (outer.command === Command.Write) part.data = cutSlices(outer.data, part.offset - outer.offset, part.length);
    if (outer.command === Command.Read) this.#reads.push(part);
    this.#next += part.length;
    return part;
  }

  completed(part: BlockRequest): void {
    this.#underWay--;
    if (part.error !== 0 && this.#error === 0) this.#error = part.error;
    if (part.command === Command.BlockStatus) this.#outer.extents = part.extents;
    if (!this.#sending) this.start();
  }

  #done(): void {
    if (this.#error === 0) for (const { data } of this.#reads) this.#outer.data.push(...data);
    this.#outer.complete(this.#error);
  }
}

function endOfPlace(offset: number): number {
  return offset - (offset % PLACE_BYTES) + PLACE_BYTES;
}
