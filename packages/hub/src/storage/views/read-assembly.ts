/**
 * Puts the answer to one read together: pieces in order, zeroes at once, others when they have been read. Completes the
 * request when the last one is there.
 */
import { appendZeroes, type BlockRequest, NbdError } from '@rephub/nbd';

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

  /** `read` fills the buffer that it is given. */
  piece(length: number, read: (buffer: Buffer) => Promise<void>): void {
    if (this.#error !== 0) return;
    const buffer = Buffer.allocUnsafe(length);
    this.#request.data.push(buffer);
    this.#waiting += 1;
    read(buffer).then(this.#arrived, (error: unknown) => {
      this.#error = NbdError.Eio;
      this.#owner.readFailed(error);
      this.#arrived();
    });
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
