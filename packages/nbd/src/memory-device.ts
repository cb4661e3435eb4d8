/**
 * A sparse device in memory, for tests, tools and measuring: pages are made when they are first written.
 * Answers within `submit`. What was read is a copy, since pages change in place.
 */
import {
  type Abilities,
  ALL_ABILITIES,
  ALLOCATION_CONTEXT,
  AllocationFlag,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  DEFAULT_LIMITS,
  type Limits,
  NbdError,
} from './block-device.js';
import { freshBuffer } from './slab.js';
import { appendZeroes, ZEROES } from './zeroes.js';

export interface MemoryDeviceOptions {
  /** Those left out: it can everything. */
  readonly abilities?: Partial<Abilities>;
  readonly limits?: Partial<Limits>;
}

const PAGE_BYTES = 64 * 1024;

/** A sparse device in memory of `sizeBytes`, all zero. */
export function memoryDevice(sizeBytes: number, options: MemoryDeviceOptions = {}): BlockDevice {
  return new MemoryDevice(sizeBytes, options);
}

class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly #pages: (Buffer | undefined)[] = [];

  constructor(sizeBytes: number, options: MemoryDeviceOptions) {
    this.sizeBytes = sizeBytes;
    this.abilities = { ...ALL_ABILITIES, ...options.abilities };
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  submit(request: BlockRequest): void {
    switch (request.command) {
      case Command.Read:
        this.#read(request);
        break;
      case Command.Write:
        this.#write(request);
        break;
      case Command.WriteZeroes:
        this.#zero(request.offset, request.length, (request.flags & CommandFlag.NoHole) !== 0);
        break;
      case Command.Trim:
        this.#zero(request.offset, request.length, false);
        break;
      case Command.BlockStatus:
        this.#status(request);
        break;
      case Command.Flush:
      case Command.Cache:
        break;
    }
    request.complete(NbdError.Ok);
  }

  close(): Promise<void> {
    this.#pages.length = 0;
    return Promise.resolve();
  }

  #read(request: BlockRequest): void {
    let { offset } = request;
    const end = offset + request.length;
    while (offset < end) {
      const within = offset % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - within, end - offset);
      const page = this.#pages[(offset - within) / PAGE_BYTES];
      if (page === undefined) appendZeroes(request.data, step);
      else {
        const copy = freshBuffer(step);
        page.copy(copy, 0, within, within + step);
        request.data.push(copy);
      }
      offset += step;
    }
  }

  #write(request: BlockRequest): void {
    let { offset } = request;
    for (const slice of request.data) {
      let at = 0;
      while (at < slice.length) {
        const within = offset % PAGE_BYTES;
        const step = Math.min(PAGE_BYTES - within, slice.length - at);
        slice.copy(this.#page((offset - within) / PAGE_BYTES), within, at, at + step);
        offset += step;
        at += step;
      }
    }
  }

  #page(index: number): Buffer {
    const found = this.#pages[index];
    if (found !== undefined) return found;
    const made = Buffer.alloc(PAGE_BYTES);
    this.#pages[index] = made;
    return made;
  }

  #zero(from: number, length: number, isStored: boolean): void {
    let offset = from;
    const end = from + length;
    while (offset < end) {
      const within = offset % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - within, end - offset);
      const index = (offset - within) / PAGE_BYTES;
      const page = isStored ? this.#page(index) : this.#pages[index];
      if (step === PAGE_BYTES && !isStored) this.#pages[index] = undefined;
      else page?.fill(0, within, within + step);
      offset += step;
    }
  }

  #status(request: BlockRequest): void {
    const runs: number[] = [];
    let offset = request.offset;
    const end = offset + request.length;
    while (offset < end) {
      const within = offset % PAGE_BYTES;
      const step = Math.min(PAGE_BYTES - within, end - offset);
      const page = this.#pages[(offset - within) / PAGE_BYTES];
      const flags = page === undefined ? HOLE : isZeroPage(page) ? AllocationFlag.Zero : 0;
      if (runs.length > 0 && runs.at(-1) === flags) runs[runs.length - 2] = (runs.at(-2) ?? 0) + step;
      else runs.push(step, flags);
      offset += step;
    }
    request.extents = request.contexts.map((context) =>
      context === ALLOCATION_CONTEXT ? { runs } : { runs: [request.length, 0] },
    );
  }
}

const HOLE = AllocationFlag.Hole | AllocationFlag.Zero;

function isZeroPage(page: Buffer): boolean {
  return page.equals(ZEROES.subarray(0, page.length));
}
