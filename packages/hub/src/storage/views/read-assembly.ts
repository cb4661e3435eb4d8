/**
 * Puts the answer to one read together: pieces in order, zeroes at once, others when they have been read. Completes the
 * request when the last one is there.
 */
import { appendZeroes, type BlockRequest, freshBuffer, NbdError } from '@rephub/nbd';
import { holdSlice } from '@rephub/platform';

export interface AssemblyOwner {
  /** Looked at when all has come: an NbdError that makes it void, or 0. */
  verdict(): number;
  /** A piece could not be read. */
  readFailed(error: unknown): void;
  /** Called after the request has gone back. */
  done(): void;
}

export class ReadAssembly {
  readonly #request: BlockRequest;
  readonly #owner: AssemblyOwner;
  #waiting = 1;
  #error: number = NbdError.Ok;

  constructor(request: BlockRequest, owner: AssemblyOwner) {
    this.#request = request;
    this.#owner = owner;
    request.data = [];
  }

  zeroes(length: number): void {
    appendZeroes(this.#request.data, length);
  }

  /** The range cannot be read. */
  fail(): void {
    this.#error = NbdError.Eio;
  }

  /** The next bytes, all that `read` fills its buffer with. */
  piece(length: number, read: (buffer: Buffer) => Promise<void>): void {
    this.#request.data.push(this.begin(length, read));
  }

  /** Begins a read of which parts are wanted. */
  begin(length: number, read: (buffer: Buffer) => Promise<void>): Buffer {
    const buffer = freshBuffer(length);
    if (this.#error !== 0) return buffer;
    this.#waiting += 1;
    read(buffer).then(this.#arrived, (error: unknown) => {
      this.#error = NbdError.Eio;
      this.#owner.readFailed(error);
      this.#arrived();
    });
    return buffer;
  }

  /** The next bytes: part of a read that was begun. Each part is released by itself, and the first has the memory's own hold. */
  part(bytes: Buffer, isFirst: boolean): void {
    if (!isFirst) holdSlice(bytes);
    this.#request.data.push(bytes);
  }

  /** No more pieces follow. */
  end(): void {
    this.#arrived();
  }

  readonly #arrived = (): void => {
    this.#waiting -= 1;
    if (this.#waiting > 0) return;
    const error = this.#error === 0 ? this.#owner.verdict() : this.#error;
    if (error !== 0) this.#request.data = [];
    this.#request.complete(error);
    this.#owner.done();
  };
}
