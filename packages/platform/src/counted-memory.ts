/**
 * Memory that payload arrives in and that is used again: it is counted who holds a slab, and when the last
 * one lets go it goes back to where it came from. Payload is kept for as long as a hub is away without being
 * copied, and the garbage collector has nothing to do with it.
 *
 * Always holds: the bytes of a slab do not change while anybody holds it. Memory that is not counted (made in any other way) may be
 * held and released like the rest, without effect.
 * Must not know: connections, what the bytes mean.
 */
import { assert } from './errors.js';

/** One piece of counted memory; whoever makes it holds it. */
export class CountedSlab {
  readonly memory: Buffer;
  readonly #unheld: (slab: CountedSlab) => void;
  #holds = 1;

  /** `unheld` is called each time that nobody holds it any more. */
  constructor(sizeBytes: number, unheld: (slab: CountedSlab) => void) {
    this.memory = Buffer.allocUnsafeSlow(sizeBytes);
    this.#unheld = unheld;
    counted.set(this.memory.buffer, this);
  }

  get holds(): number {
    return this.#holds;
  }

  hold(): void {
    this.#holds += 1;
  }

  release(): void {
    assert(this.#holds > 0, 'memory is released that nobody holds');
    this.#holds -= 1;
    if (this.#holds === 0) this.#unheld(this);
  }
}

const counted = new WeakMap<ArrayBufferLike, CountedSlab>();

/** Keeps the bytes of these slices as they are, until they are released as often as they were held. */
export function holdBytes(slices: readonly Uint8Array[]): void {
  for (const slice of slices) holdSlice(slice);
}

/** Lets go of slices that were held; their bytes may change from now on. */
export function releaseBytes(slices: readonly Uint8Array[]): void {
  for (const slice of slices) releaseSlice(slice);
}

/** As `holdBytes`, for one slice. False: its memory is not counted. */
export function holdSlice(slice: Uint8Array): boolean {
  const slab = counted.get(slice.buffer);
  slab?.hold();
  return slab !== undefined;
}

/** As `releaseBytes`, for one slice. */
export function releaseSlice(slice: Uint8Array): void {
  counted.get(slice.buffer)?.release();
}

/** What is kept for another use, at most, for all connections together. */
const KEPT_BYTES = 32 * 1024 * 1024;

/** Slabs that nobody holds, by size. */
export class SlabPool {
  readonly #keptBytes: number;
  readonly #free = new Map<number, CountedSlab[]>();
  #freeBytes = 0;

  constructor(keptBytes = KEPT_BYTES) {
    this.#keptBytes = keptBytes;
  }

  /** Bytes at hand; for tests and metrics. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** A slab of exactly this size, held by the caller. */
  take(sizeBytes: number): CountedSlab {
    const slab = this.#free.get(sizeBytes)?.pop();
    if (slab === undefined) return new CountedSlab(sizeBytes, this.#takeBack);
    this.#freeBytes -= sizeBytes;
    slab.hold();
    return slab;
  }

  readonly #takeBack = (slab: CountedSlab): void => {
    const sizeBytes = slab.memory.length;
    if (this.#freeBytes + sizeBytes > this.#keptBytes) return;
    const free = this.#free.get(sizeBytes);
    if (free === undefined) this.#free.set(sizeBytes, [slab]);
    else free.push(slab);
    this.#freeBytes += sizeBytes;
  };
}
