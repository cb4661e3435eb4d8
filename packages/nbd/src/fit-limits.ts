/**
 * Widens a device's limits: long reads and writes are split, unaligned ones are widened (reads, status,
 * cache hints), narrowed (trims) or read, changed and written (writes, zeroing).
 *
 * Always holds: while a piece is read, changed and written, no other change is under way, so that of two
 * neighbours in one block neither is lost; whoever comes then waits in order. What needs no fitting goes
 * through: a promise is made only for what does.
 */
import {
  type Abilities,
  ALLOCATION_CONTEXT,
  type BlockDevice,
  BlockRequest,
  Command,
  CommandFlag,
  type Completion,
  type Limits,
  NbdError,
} from './block-device.js';
import { cutSlices } from './slices.js';
import { appendZeroes } from './zeroes.js';

/** The device with these limits; the device itself when it has them already. */
export function fitLimits(device: BlockDevice, wanted: Limits): BlockDevice {
  const { minimumBytes, maximumBytes } = device.limits;
  const fits = minimumBytes <= wanted.minimumBytes && maximumBytes >= wanted.maximumBytes;
  return fits ? device : new FittedDevice(device, wanted);
}

/** Pieces of one request that are under way at a time. */
const PIECES = 8;

class FittedDevice implements BlockDevice, Completion {
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly #device: BlockDevice;
  readonly #block: number;
  readonly #most: number;
  readonly #pool: BlockRequest[] = [];
  /** Changes under way, and whether the one under way must be alone. */
  #changing = 0;
  #isAlone = false;
  readonly #waiting: BlockRequest[] = [];
  #inFlight = 0;
  #idle: (() => void) | null = null;

  constructor(device: BlockDevice, wanted: Limits) {
    this.#device = device;
    this.abilities = device.abilities;
    this.limits = {
      minimumBytes: Math.min(wanted.minimumBytes, device.limits.minimumBytes),
      preferredBytes: Math.max(wanted.preferredBytes, device.limits.preferredBytes),
      maximumBytes: Math.max(wanted.maximumBytes, device.limits.maximumBytes),
    };
    this.#block = device.limits.minimumBytes;
    this.#most = device.limits.maximumBytes;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  submit(request: BlockRequest): void {
    this.#inFlight++;
    if (!isChange(request)) {
      this.#begin(request);
      return;
    }
    if (this.#isAlone || this.#waiting.length > 0 || (this.#changing > 0 && this.#mustBeAlone(request))) {
      this.#waiting.push(request);
    } else {
      this.#beginChange(request);
    }
  }

  async close(): Promise<void> {
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#device.close();
  }

  /** A request that went through whole. */
  completed(inner: BlockRequest): void {
    const { outer, error } = inner;
    if (outer === null) return;
    if (inner.command === Command.Read) outer.data = inner.data;
    outer.extents = inner.extents;
    inner.data = [];
    inner.extents = [];
    inner.reset();
    this.#pool.push(inner);
    this.#finish(outer, error);
  }

  #beginChange(request: BlockRequest): void {
    this.#changing++;
    this.#isAlone = this.#mustBeAlone(request);
    this.#begin(request);
  }

  #begin(request: BlockRequest): void {
    if (this.#fits(request)) {
      const inner = this.#pool.pop() ?? new BlockRequest(this);
      inner.command = request.command;
      inner.flags = request.flags;
      inner.offset = request.offset;
      inner.length = request.length;
      inner.contexts = request.contexts;
      if (request.command === Command.Write) inner.data = request.data;
      inner.outer = request;
      this.#device.submit(inner);
      return;
    }
    this.#fit(request).then(
      () => this.#finish(request, NbdError.Ok),
      (thrown: unknown) => this.#finish(request, thrown instanceof Refused ? thrown.nbdError : NbdError.Eio),
    );
  }

  #finish(request: BlockRequest, error: number): void {
    const change = isChange(request);
    if (change) {
      this.#changing--;
      this.#isAlone = false;
    }
    this.#inFlight--;
    request.complete(error);
    if (change) this.#letIn();
    if (this.#inFlight === 0) this.#idle?.();
  }

  #letIn(): void {
    while (!this.#isAlone) {
      const next = this.#waiting[0];
      if (next === undefined || (this.#changing > 0 && this.#mustBeAlone(next))) return;
      this.#waiting.shift();
      this.#beginChange(next);
    }
  }

  #fits(request: BlockRequest): boolean {
    if (request.command === Command.Flush) return true;
    const isLong =
      (request.command === Command.Read || request.command === Command.Write) && request.length > this.#most;
    return !isLong && this.#isAligned(request.offset) && this.#isAligned(request.offset + request.length);
  }

  #isAligned(offset: number): boolean {
    return offset % this.#block === 0 || offset === this.sizeBytes;
  }

  #mustBeAlone(request: BlockRequest): boolean {
    if (request.command === Command.Trim) return false;
    return !this.#isAligned(request.offset) || !this.#isAligned(request.offset + request.length);
  }

  #down(offset: number): number {
    return offset - (offset % this.#block);
  }

  #up(offset: number): number {
    return Math.min(this.sizeBytes, Math.ceil(offset / this.#block) * this.#block);
  }

  async #fit(request: BlockRequest): Promise<void> {
    const from = request.offset;
    const end = from + request.length;
    switch (request.command) {
      case Command.Read:
        request.data = cutSlices(await this.#readWide(from, end), from - this.#down(from), request.length);
        return;
      case Command.Write:
        await this.#writeWide(from, end, request.data, request.flags);
        return;
      case Command.WriteZeroes:
        await this.#zeroWide(from, end, request.flags);
        return;
      case Command.Trim: {
        const first = this.#up(from);
        const last = end === this.sizeBytes ? end : this.#down(end);
        if (last > first) await this.#run(Command.Trim, request.flags, first, last);
        return;
      }
      case Command.Cache:
        await this.#run(Command.Cache, request.flags, this.#down(from), this.#up(end));
        return;
      case Command.BlockStatus: {
        const inner = await this.#run(Command.BlockStatus, request.flags, this.#down(from), this.#up(end), [], request);
        request.extents = inner.extents.map(({ runs }, index) => {
          const kept = cutRuns(runs, from - this.#down(from));
          if (kept.length > 0) return { runs: kept };
          // Runs shorter than a block may end before the request begins. Only of allocation may that count as data.
          if (request.contexts[index] !== ALLOCATION_CONTEXT) throw new Refused(NbdError.Eio);
          return { runs: [request.length, 0] };
        });
        return;
      }
      case Command.Flush:
        return;
    }
  }

  async #readWide(from: number, end: number): Promise<Buffer[]> {
    const pieces: Promise<BlockRequest>[] = [];
    const data: Buffer[] = [];
    for (let offset = this.#down(from); offset < end; offset += this.#most) {
      pieces.push(this.#run(Command.Read, 0, offset, Math.min(offset + this.#most, this.#up(end))));
      if (pieces.length < PIECES && offset + this.#most < end) continue;
      for (const piece of await settled(pieces.splice(0))) for (const slice of piece.data) data.push(slice);
    }
    return data;
  }

  async #writeWide(from: number, end: number, data: readonly Buffer[], flags: number): Promise<void> {
    const head = from > this.#down(from) ? await this.#readWide(this.#down(from), from) : [];
    const tail = this.#isAligned(end) ? [] : await this.#readWide(this.#down(end), end);
    const whole = [
      ...cutSlices(head, 0, from - this.#down(from)),
      ...data,
      ...cutSlices(tail, end - this.#down(end), this.#isAligned(end) ? 0 : this.#up(end) - end),
    ];
    const start = this.#down(from);
    const stop = this.#up(end);
    const pieces: Promise<BlockRequest>[] = [];
    for (let offset = start; offset < stop; offset += this.#most) {
      const to = Math.min(offset + this.#most, stop);
      pieces.push(this.#run(Command.Write, flags, offset, to, cutSlices(whole, offset - start, to - offset)));
      if (pieces.length < PIECES && to < stop) continue;
      await settled(pieces.splice(0));
    }
  }

  async #zeroWide(from: number, end: number, flags: number): Promise<void> {
    // The edges have to be written: not faster than writing.
    if ((flags & CommandFlag.FastZero) !== 0) throw new Refused(NbdError.Enotsup);
    const fua = flags & CommandFlag.Fua;
    const first = Math.min(this.#up(from), end);
    const last = this.#isAligned(end) ? end : Math.max(first, this.#down(end));
    if (first > from) await this.#writeWide(from, first, zeroes(first - from), fua);
    if (last > first) await this.#run(Command.WriteZeroes, flags, first, last);
    if (end > last) await this.#writeWide(last, end, zeroes(end - last), fua);
  }

  #run(
    command: Command,
    flags: number,
    from: number,
    end: number,
    data: Buffer[] = [],
    contextsOf: BlockRequest | null = null,
  ): Promise<BlockRequest> {
    return new Promise((resolve, reject) => {
      const inner = new BlockRequest({
        completed: (done) => {
          if (done.error === NbdError.Ok) resolve(done);
          else reject(new Refused(done.error));
        },
      });
      inner.command = command;
      inner.flags = flags;
      inner.offset = from;
      inner.length = end - from;
      inner.data = data;
      if (contextsOf !== null) inner.contexts = contextsOf.contexts;
      this.#device.submit(inner);
    });
  }
}

class Refused extends Error {
  readonly nbdError: number;

  constructor(nbdError: number) {
    super(`NBD error ${nbdError}`);
    this.nbdError = nbdError;
  }
}

/** The pieces, once none of them is under way any more; throws the first failure only then. */
async function settled(pieces: Promise<BlockRequest>[]): Promise<BlockRequest[]> {
  await Promise.allSettled(pieces);
  return await Promise.all(pieces);
}

function isChange(request: BlockRequest): boolean {
  const { command } = request;
  return command === Command.Write || command === Command.WriteZeroes || command === Command.Trim;
}

function zeroes(length: number): Buffer[] {
  const data: Buffer[] = [];
  appendZeroes(data, length);
  return data;
}

/** The runs without their first `skip` bytes. */
function cutRuns(runs: readonly number[], skip: number): number[] {
  const kept: number[] = [];
  let left = skip;
  for (let index = 0; index + 1 < runs.length; index += 2) {
    const length = runs[index] ?? 0;
    const dropped = Math.min(left, length);
    left -= dropped;
    if (length > dropped) kept.push(length - dropped, runs[index + 1] ?? 0);
  }
  return kept;
}
