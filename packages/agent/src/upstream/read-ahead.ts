/**
 * Sequential read-ahead in front of a disk, as a booting machine likes it: a read that follows the one before it
 * is doubled, and what was read too much answers the next one.
 *
 * Always holds: nothing is answered from here that a write, zeroing or trim has touched since it was read, or
 * while it was: writers drop what they overlap when they begin and when they end. A flush drops all, so that
 * what others wrote upstream is seen after it.
 */
import { type Abilities, type BlockDevice, BlockRequest, Command, type Completion, type Limits } from '@rephub/nbd';
import { holdSlice, releaseBytes } from '@rephub/platform';

/** So many sequential readers are told apart. */
const STREAMS = 4;

/** Returns the device itself for 0 bytes. */
export function readAhead(device: BlockDevice, limitBytes: number): BlockDevice {
  return limitBytes === 0 ? device : new ReadAhead(device, limitBytes);
}

/** One sequential reader: where it will go on, and what is at hand there. */
class Stream {
  nextOffset: number;
  /** From nextOffset on; empty: nothing. */
  data: readonly Buffer[] = [];
  bytes = 0;

  constructor(nextOffset: number) {
    this.nextOffset = nextOffset;
  }

  forget(): void {
    releaseBytes(this.data);
    this.data = [];
    this.bytes = 0;
  }

  /** Takes so many bytes off the front. */
  take(length: number): Buffer[] {
    const [taken, rest] = split(this.data, length);
    this.data = rest;
    this.bytes -= length;
    this.nextOffset += length;
    return taken;
  }
}

export class ReadAhead implements BlockDevice {
  readonly #device: BlockDevice;
  readonly #limitBytes: number;
  /** The one used last comes last. */
  #streams: Stream[] = [];
  readonly #underWay = new Set<AheadRead>();

  constructor(device: BlockDevice, limitBytes: number) {
    this.#device = device;
    this.#limitBytes = limitBytes;
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get abilities(): Abilities {
    return this.#device.abilities;
  }

  get limits(): Limits {
    return this.#device.limits;
  }

  /** Bytes at hand. */
  get heldBytes(): number {
    return this.#streams.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  submit(request: BlockRequest): void {
    switch (request.command) {
      case Command.Read:
        this.#read(request);
        return;
      case Command.Write:
      case Command.WriteZeroes:
      case Command.Trim:
        new WatchedWrite(this, request).start(this.#device);
        return;
      case Command.Flush:
        this.invalidate(0, this.sizeBytes);
        this.#device.submit(request);
        return;
      case Command.Cache:
      case Command.BlockStatus:
        this.#device.submit(request);
        return;
    }
  }

  async close(): Promise<void> {
    await this.#device.close();
  }

  /** Drops what is at hand, or will be, of this range. */
  invalidate(offset: number, length: number): void {
    const end = offset + length;
    for (const stream of this.#streams) {
      if (stream.nextOffset < end && offset < stream.nextOffset + stream.bytes) stream.forget();
    }
    for (const read of this.#underWay) {
      if (read.inner.offset < end && offset < read.inner.offset + read.inner.length) read.isStale = true;
    }
  }

  #read(request: BlockRequest): void {
    const { offset, length } = request;
    const at = this.#streams.findIndex(({ nextOffset }) => nextOffset === offset);
    if (at < 0) {
      this.#streams.push(new Stream(offset + length));
      if (this.#streams.length > STREAMS) this.#streams.shift()?.forget();
      this.#device.submit(request);
      return;
    }
    const [stream] = this.#streams.splice(at, 1) as [Stream];
    this.#streams.push(stream);
    if (stream.bytes >= length) {
      request.data = stream.take(length);
      request.complete(0);
      return;
    }
    stream.forget();
    stream.nextOffset = offset + length;
    const aheadBytes = Math.min(length, this.#limitBytes, this.sizeBytes - offset - length);
    if (length > this.#limitBytes || aheadBytes < length || 2 * length > this.limits.maximumBytes) {
      this.#device.submit(request);
      return;
    }
    const read = new AheadRead(this, stream, request);
    this.#underWay.add(read);
    read.start(this.#device, aheadBytes);
  }

  readEnded(read: AheadRead): void {
    const { inner, outer, stream, isStale } = read;
    this.#underWay.delete(read);
    if (inner.error !== 0) {
      // What nobody asked for must not fail what somebody did.
      this.#device.submit(outer);
      return;
    }
    const [wanted, ahead] = split(inner.data, outer.length);
    const isNext = stream.nextOffset === outer.offset + outer.length && this.#streams.includes(stream);
    if (isNext && !isStale) {
      stream.data = ahead;
      stream.bytes = inner.length - outer.length;
    } else {
      releaseBytes(ahead);
    }
    outer.data = wanted;
    outer.complete(0);
  }
}

class AheadRead implements Completion {
  readonly inner: BlockRequest;
  readonly outer: BlockRequest;
  readonly stream: Stream;
  /** Written to meanwhile: what was read too much is no good. */
  isStale = false;
  readonly #owner: ReadAhead;

  constructor(owner: ReadAhead, stream: Stream, outer: BlockRequest) {
    this.#owner = owner;
    this.stream = stream;
    this.outer = outer;
    this.inner = new BlockRequest(this);
  }

  start(device: BlockDevice, aheadBytes: number): void {
    const { inner, outer } = this;
    inner.command = Command.Read;
    inner.flags = outer.flags;
    inner.offset = outer.offset;
    inner.length = outer.length + aheadBytes;
    device.submit(inner);
  }

  completed(): void {
    this.#owner.readEnded(this);
  }
}

class WatchedWrite implements Completion {
  readonly #owner: ReadAhead;
  readonly #outer: BlockRequest;

  constructor(owner: ReadAhead, outer: BlockRequest) {
    this.#owner = owner;
    this.#outer = outer;
  }

  start(device: BlockDevice): void {
    const outer = this.#outer;
    const inner = new BlockRequest(this);
    inner.command = outer.command;
    inner.flags = outer.flags;
    inner.offset = outer.offset;
    inner.length = outer.length;
    inner.data = outer.data;
    inner.startedMs = outer.startedMs;
    this.#owner.invalidate(outer.offset, outer.length);
    device.submit(inner);
  }

  completed(inner: BlockRequest): void {
    this.#owner.invalidate(inner.offset, inner.length);
    this.#outer.complete(inner.error);
  }
}

/** The slices of the first `length` bytes, and those of the rest; each is held as the whole was. */
function split(slices: readonly Buffer[], length: number): [Buffer[], Buffer[]] {
  const first: Buffer[] = [];
  const rest: Buffer[] = [];
  let left = length;
  for (const slice of slices) {
    if (left >= slice.length) first.push(slice);
    else if (left === 0) rest.push(slice);
    else {
      holdSlice(slice);
      first.push(slice.subarray(0, left));
      rest.push(slice.subarray(left));
    }
    left = Math.max(0, left - slice.length);
  }
  return [first, rest];
}
