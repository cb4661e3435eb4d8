/**
 * A trim, zeroing or cache request whose length does not fit the 32 bits of a compact header, sent as
 * several, one after the other. Such requests are rare; what this allocates does not matter.
 */
import { BlockRequest, type Completion, NbdError } from '../block-device.js';

/** A multiple of every block size there may be. */
const STEP_BYTES = 2 * 1024 * 1024 * 1024;

export class LongEffect implements Completion {
  readonly outer: BlockRequest;
  readonly #submit: (request: BlockRequest) => void;
  readonly #inner: BlockRequest;

  constructor(outer: BlockRequest, submit: (request: BlockRequest) => void) {
    this.outer = outer;
    this.#submit = submit;
    this.#inner = new BlockRequest(this);
    this.#inner.command = outer.command;
    this.#inner.flags = outer.flags;
    this.#inner.offset = outer.offset;
  }

  start(): void {
    this.#inner.length = Math.min(STEP_BYTES, this.outer.offset + this.outer.length - this.#inner.offset);
    this.#submit(this.#inner);
  }

  completed(inner: BlockRequest): void {
    inner.offset += inner.length;
    if (inner.error !== NbdError.Ok) this.outer.complete(inner.error);
    else if (inner.offset >= this.outer.offset + this.outer.length) this.outer.complete(NbdError.Ok);
    else this.start();
  }
}
