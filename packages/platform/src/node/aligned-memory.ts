/**
 * Memory whose address is a multiple of BLOCK_BYTES, as reads and writes past the page cache need it: a few buffers for
 * the whole process, lent and given back.
 *
 * Always holds: a pool makes no more buffers than it may; who asks when all are lent waits for his turn.
 */
import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

/** Positions, lengths and addresses past the page cache are multiples of this. */
export const BLOCK_BYTES = 4096;

let allocate: ((bytes: number) => Buffer) | null | undefined;

/** False where such memory cannot be had: then everything goes through the page cache. */
export function hasAlignedMemory(): boolean {
  allocate ??= allocator();
  return allocate !== null;
}

export class AlignedPool {
  readonly #bytes: number;
  readonly #most: number;
  #made = 0;
  readonly #free: Buffer[] = [];
  readonly #waiting: ((buffer: Buffer) => void)[] = [];

  /** Of buffers of `bytes`, at most so many. */
  constructor(bytes: number, most: number) {
    this.#bytes = bytes;
    this.#most = most;
  }

  /** Lends a buffer; `giveBack` must follow. Only where there `hasAlignedMemory`. */
  borrow(): Promise<Buffer> {
    const buffer = this.#free.pop() ?? this.#make();
    if (buffer !== null) return Promise.resolve(buffer);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  giveBack(buffer: Buffer): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(buffer);
    else next(buffer);
  }

  #make(): Buffer | null {
    if (this.#made === this.#most || allocate === null || allocate === undefined) return null;
    this.#made += 1;
    return allocate(this.#bytes);
  }
}

function allocator(): ((bytes: number) => Buffer) | null {
  if (process.platform !== 'linux') return null;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const alignedAlloc = koffi.load(null).func('void *aligned_alloc(size_t alignment, size_t size)');
    return (bytes) => {
      const pointer: unknown = alignedAlloc(BLOCK_BYTES, bytes);
      if (pointer === null) throw new Error(`no ${bytes} bytes of aligned memory`);
      // Never freed: the buffers live as long as the process.
      return Buffer.from(koffi.view(pointer, bytes));
    };
  } catch {
    return null;
  }
}
