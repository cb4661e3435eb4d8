/**
 * Binds each range of a disk to one of several connections that do not see each other's writes: a range is
 * always written, read and flushed through the same one. Requests that reach over an edge are cut there.
 */
import { BlockRequest, Command, type Completion, NbdError } from '@rephub/nbd';

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

/** One request as several, each within one place, under way together. Rare enough to allocate. */
export class CutRequest implements Completion {
  readonly #outer: BlockRequest;
  readonly #parts: BlockRequest[] = [];
  #pending = 0;
  #error: number = NbdError.Ok;

  constructor(outer: BlockRequest) {
    this.#outer = outer;
  }

  start(submit: (part: BlockRequest) => void): void {
    const outer = this.#outer;
    const end = outer.offset + outer.length;
    for (let at = outer.offset; at < end;) {
      const part = new BlockRequest(this);
      part.command = outer.command;
      part.flags = outer.flags;
      part.offset = at;
      part.length = Math.min(PLACE_BYTES - (at % PLACE_BYTES), end - at);
      part.contexts = outer.contexts;
      if (outer.command === Command.Write) part.data = cutSlices(outer.data, at - outer.offset, part.length);
      this.#parts.push(part);
      at += part.length;
      // Extents may stop short of what was asked.
      if (outer.command === Command.BlockStatus) break;
    }
    this.#pending = this.#parts.length;
    for (const part of this.#parts) submit(part);
  }

  completed(part: BlockRequest): void {
    if (part.error !== 0 && this.#error === 0) this.#error = part.error;
    if (--this.#pending > 0) return;
    const outer = this.#outer;
    if (this.#error === 0 && outer.command === Command.Read) {
      for (const { data } of this.#parts) outer.data.push(...data);
    }
    if (outer.command === Command.BlockStatus) outer.extents = part.extents;
    outer.complete(this.#error);
  }
}

function cutSlices(slices: readonly Buffer[], from: number, length: number): Buffer[] {
  const cut: Buffer[] = [];
  let skip = from;
  let left = length;
  for (const slice of slices) {
    if (left === 0) break;
    if (skip >= slice.length) {
      skip -= slice.length;
      continue;
    }
    const piece = slice.subarray(skip, skip + left);
    cut.push(piece);
    skip = 0;
    left -= piece.length;
  }
  return cut;
}
