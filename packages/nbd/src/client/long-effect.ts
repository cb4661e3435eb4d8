/**
 * A trim, zeroing or cache request that is too long to be sent as one, sent as several, one after the other: its length does
 * not fit the 32 bits of a compact header, or what it asks for may be done by writing, and not be answered in time.
 * Such requests are rare; what this allocates does not matter.
 */
import { BlockRequest, Command, CommandFlag, type Completion, NbdError } from '../block-device.js';

/** Both are multiples of every block size there may be. */
const STEP_BYTES = 2 * 1024 * 1024 * 1024;
/** Nothing shorter is sent in parts. Two megabytes a second write so much in half a minute. */
export const LONG_BYTES = 64 * 1024 * 1024;

/** The longest part to be sent, of a request that may be `mostBytes` long; `isTimed`: each is to be answered in time. */
export function partBytes({ command, flags }: BlockRequest, mostBytes: number, isTimed: boolean): number {
  const mayBeWritten = command === Command.WriteZeroes && (flags & CommandFlag.FastZero) === 0;
  return isTimed && mayBeWritten ? LONG_BYTES : mostBytes;
}

export class LongEffect implements Completion {
  readonly outer: BlockRequest;
  readonly #submit: (request: BlockRequest) => void;
  readonly #inner: BlockRequest;
  readonly #stepBytes: number;

  constructor(outer: BlockRequest, mostBytes: number, submit: (request: BlockRequest) => void) {
    this.outer = outer;
    this.#stepBytes = Math.min(STEP_BYTES, mostBytes);
    this.#submit = submit;
    this.#inner = new BlockRequest(this);
    this.#inner.command = outer.command;
    this.#inner.flags = outer.flags;
    this.#inner.offset = outer.offset;
  }

  start(): void {
    this.#inner.length = Math.min(this.#stepBytes, this.outer.offset + this.outer.length - this.#inner.offset);
    this.#submit(this.#inner);
  }

  completed(inner: BlockRequest): void {
    inner.offset += inner.length;
    if (inner.error !== NbdError.Ok) this.outer.complete(inner.error);
    else if (inner.offset >= this.outer.offset + this.outer.length) this.outer.complete(NbdError.Ok);
    else this.start();
  }
}
