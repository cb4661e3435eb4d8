/**
 * Memory whose address is a multiple of BLOCK_BYTES, as writes past the page cache need it: a few buffers
 * for the whole process, lent and given back.
 *
 * Always holds: at most MOST_BUFFERS are made; who asks when all are lent waits for its turn.
 */
import { createRequire } from 'node:module';
import type * as Koffi from 'koffi';

/** Positions, lengths and addresses of such writes are multiples of this. */
export const BLOCK_BYTES = 4096;
/** Of one buffer: what is best written at once, and room for a rest that is not worth a write of its own. */
export const ALIGNED_BYTES = 1024 * 1024 + 64 * 1024;
const MOST_BUFFERS = 4;

let allocate: ((bytes: number) => Buffer) | null | undefined;
let made = 0;
const free: Buffer[] = [];
const waiting: ((buffer: Buffer) => void)[] = [];

/** False where such memory cannot be had: then everything goes through the page cache. */
export function hasAlignedMemory(): boolean {
  allocate ??= allocator();
  return allocate !== null;
}

/** Lends a buffer of ALIGNED_BYTES; `giveBack` must follow. */
export function borrowAligned(): Promise<Buffer> {
  const buffer = free.pop() ?? make();
  if (buffer !== null) return Promise.resolve(buffer);
  return new Promise((resolve) => waiting.push(resolve));
}

export function giveBackAligned(buffer: Buffer): void {
  const next = waiting.shift();
  if (next === undefined) free.push(buffer);
  else next(buffer);
}

function make(): Buffer | null {
  if (made === MOST_BUFFERS || allocate === null || allocate === undefined) return null;
  made += 1;
  return allocate(ALIGNED_BYTES);
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
