/**
 * Digests of a region as it is at the newest number of a line, block by block.
 *
 * Always holds: everything is looked up in the turn of the call, and what was found then is read, however long that
 * takes: journal segments in use stay, and a pin keeps newer records from being folded into the base image meanwhile. So
 * the answer is the content at that number, or none (the pin was taken away). What was read from the journal is hashed
 * where it lies.
 * Must not know: sessions, what the answer is for.
 */
import { asError, type Logger, ProtocolFault, StorageFault } from '@rephub/platform';
import { allZero, BlockKind, digestOf, HashesBuilder, type HashRegion, type RegionHashes } from '@rephub/protocol';
import type { BaseImage } from '../base/base-image.js';
import type { BaseSet } from '../base/base-set.js';
import { Place } from '../index/extent-leaf.js';
import { Resolver } from '../index/resolver.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { Timeline } from '../layers/timeline.js';
import { PooledBlocks } from '../pooled-blocks.js';

/** Content read for one answer, at most, beyond its last block: an answer stops short rather than take long. */
const ANSWER_BYTES = 2 * 1024 * 1024;
/** Looked up at once, so that a region of many pieces does not keep the event loop. */
const LOOK_UP_BYTES = 64 * 1024 * 1024;
/** But never less than a block: an answer that speaks of nothing would be asked for again for ever. */
const MOST_PIECES = 4096;
/** Read and hashed at once. */
const WINDOW_BYTES = 1024 * 1024;

/** A run of the region whose bytes come from one place. */
interface Piece {
  readonly from: number;
  to: number;
  readonly kind: 'zero' | 'unreadable' | 'base' | 'journal';
  /** Those of a journal piece, on their way since it was found. */
  readonly bytes: Buffer | null;
  readonly read: Promise<void>;
}

/** What one answer reads of the journal: into what, and what is still on its way. */
interface Reading {
  readonly memory: PooledBlocks;
  readonly reads: Promise<void>[];
}

export interface HasherParts {
  readonly timeline: Timeline;
  readonly journal: JournalReader;
  readonly base: BaseSet;
  readonly log: Logger;
  /** A pin has gone. */
  readonly released: () => void;
}

const DONE = Promise.resolve();

export class RegionHasher {
  readonly #parts: HasherParts;
  readonly #resolver = new Resolver();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(parts: HasherParts) {
    this.#parts = parts;
  }

  /**
   * The region as of the timeline's newest number. Rejects with a ProtocolFault `hash-volume`, `hash-range`; a StorageFault
   * `hash-expired` when the point had to go.
   */
  hash(request: HashRegion): Promise<RegionHashes> {
    const hashing = this.#hash(request).finally(() => this.#underWay.delete(hashing));
    this.#underWay.add(hashing);
    return hashing;
  }

  /** Resolves when nothing is read any more. */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  async #hash(request: HashRegion): Promise<RegionHashes> {
    const { timeline } = this.#parts;
    const volume = [...timeline.volumes].find(({ index }) => index === request.volume);
    if (volume === undefined) {
      throw new ProtocolFault('hash-volume', `there is no volume number ${request.volume} at ${request.number}`);
    }
    const { offset, length } = request;
    if (offset + length > volume.sizeBytes) {
      throw new ProtocolFault(
        'hash-range',
        `${length} bytes at ${offset}: volume ${volume.name} has ${volume.sizeBytes}`,
      );
    }
    const point: { expired: string | null } = { expired: null };
    const reading: Reading = { memory: new PooledBlocks(), reads: [] };
    const pin = timeline.pinNow((why) => {
      point.expired = why;
    });
    try {
      const found = this.#lookUp(request, volume, reading);
      const image = timeline.isNameTaken(volume)
        ? null
        : await this.#parts.base.imageOrSeed(volume.added, volume.name, timeline.sizeWhenAdded(volume));
      const builder = new HashesBuilder(request.blockBytes);
      await this.#fill(builder, request, found, image);
      if (point.expired !== null) {
        throw new StorageFault('hash-expired', `the point was taken away: ${point.expired}`);
      }
      return builder.build();
    } finally {
      timeline.unpin(pin);
      this.#parts.released();
      // Not before the last read that may still write into them.
      await Promise.allSettled(reading.reads);
      reading.memory.release();
    }
  }

  /** In one turn: the pieces of as much of the region as an answer may speak of; reads from the journal begin. */
  #lookUp(request: HashRegion, volume: Parameters<Timeline['resolve']>[2], reading: Reading): Piece[] {
    const { timeline, journal } = this.#parts;
    const pieces: Piece[] = [];
    const end = request.offset + request.length;
    let journalBytes = 0;
    for (let at = request.offset; at < end; at += LOOK_UP_BYTES) {
      timeline.resolve(this.#resolver, Infinity, volume, at, Math.min(end, at + LOOK_UP_BYTES));
      const { runs } = this.#resolver;
      for (let run = 0; run < runs.count; run += 1) {
        const from = runs.start(run);
        const place = runs.place(run);
        const room = Math.max(request.blockBytes, ANSWER_BYTES - journalBytes);
        const to = place >= 0 ? Math.min(runs.end(run), from + room) : runs.end(run);
        if (place >= 0) {
          for (let begin = from; begin < to;) {
            const bytes = reading.memory.next(to - begin);
            const read = journal.read(bytes, place + begin - from, true);
            // Waited for later, or not at all: then a failure is nobody's.
            read.catch(() => undefined);
            reading.reads.push(read);
            pieces.push({ from: begin, to: begin + bytes.length, kind: 'journal', bytes, read });
            begin += bytes.length;
          }
          journalBytes += to - from;
        } else {
          const kind = place === Place.Gap ? 'base' : place === Place.Unreadable ? 'unreadable' : 'zero';
          const last = pieces.at(-1);
          if (last?.kind === kind) last.to = to;
          else pieces.push({ from, to, kind, bytes: null, read: DONE });
        }
        const isMuch = pieces.length >= MOST_PIECES && to - request.offset >= request.blockBytes;
        if (to < runs.end(run) || journalBytes >= ANSWER_BYTES || isMuch) return pieces;
      }
    }
    return pieces;
  }

  async #fill(
    builder: HashesBuilder,
    request: HashRegion,
    found: readonly Piece[],
    image: BaseImage | null,
  ): Promise<void> {
    const { offset, length, blockBytes } = request;
    const foundBytes = (found.at(-1)?.to ?? offset) - offset;
    const limit = offset + (foundBytes < length ? foundBytes - (foundBytes % blockBytes) : length);
    let spentBytes = 0;
    for (let at = offset; at < limit && spentBytes < ANSWER_BYTES && !builder.isFull; at = offset + builder.covered) {
      const piece = found.find(({ to }) => to > at);
      if (piece === undefined) return;
      const same = await stretchOf(piece, at, limit, image);
      const whole = same.to >= limit ? limit - at : Math.floor((same.to - at) / blockBytes) * blockBytes;
      if (same.kind !== null && whole > 0) {
        builder.add(same.kind, whole);
        continue;
      }
      const to = Math.min(limit, at + Math.max(blockBytes, WINDOW_BYTES));
      await this.#window(builder, request, found, image, at, to);
      spentBytes += to - at;
    }
  }

  /** Reads [from, to), which begins with a block, and hashes its blocks. */
  async #window(
    builder: HashesBuilder,
    request: HashRegion,
    found: readonly Piece[],
    image: BaseImage | null,
    from: number,
    to: number,
  ): Promise<void> {
    const window = new PooledBlocks();
    try {
      const slices = await this.#read(window, found, image, from, to);
      if (slices !== null) {
        const cut = new Cutter(slices);
        for (let at = from; at < to && !builder.isFull; at += request.blockBytes) {
          const length = Math.min(request.blockBytes, to - at);
          const block = cut.next(length);
          if (allZero(block)) builder.add(BlockKind.Zero, length);
          else builder.add(BlockKind.Data, length, digestOf(request.key, block));
        }
      } else if (to - from > request.blockBytes) {
        for (let at = from; at < to && !builder.isFull; at += request.blockBytes) {
          await this.#window(builder, request, found, image, at, Math.min(to, at + request.blockBytes));
        }
      } else builder.add(BlockKind.Unreadable, to - from);
    } finally {
      window.release();
    }
  }

  /** The bytes of [from, to) in order; what does not come from the journal is put into `window`. Null when some of it cannot be read. */
  async #read(
    window: PooledBlocks,
    found: readonly Piece[],
    image: BaseImage | null,
    from: number,
    to: number,
  ): Promise<Buffer[] | null> {
    const within = found.filter((piece) => piece.to > from && piece.from < to);
    if (within.some(({ kind }) => kind === 'unreadable')) return null;
    const slices: Buffer[] = [];
    const reads: Promise<void>[] = [];
    for (const piece of within) {
      const begin = Math.max(piece.from, from);
      const end = Math.min(piece.to, to);
      if (piece.bytes !== null) {
        slices.push(piece.bytes.subarray(begin - piece.from, end - piece.from));
        reads.push(piece.read);
        continue;
      }
      for (let at = begin; at < end;) {
        const part = window.next(end - at);
        slices.push(part);
        if (piece.kind === 'zero' || image === null) part.fill(0);
        else reads.push(image.read(part, at, true));
        at += part.length;
      }
    }
    // All of them, before the memory of any is used again.
    const failed = (await Promise.allSettled(reads)).find((read) => read.status === 'rejected');
    if (failed === undefined) return slices;
    const { message } = asError(failed.reason);
    this.#parts.log.warn('hash-read-failed', { offset: from, length: to - from, message });
    return null;
  }
}

/** Cuts one block after another off the front of slices. */
class Cutter {
  readonly #slices: readonly Buffer[];
  #slice = 0;
  #used = 0;

  constructor(slices: readonly Buffer[]) {
    this.#slices = slices;
  }

  next(lengthBytes: number): Buffer[] {
    const block: Buffer[] = [];
    for (let missing = lengthBytes; missing > 0;) {
      const slice = this.#slices[this.#slice];
      if (slice === undefined) break;
      const part = slice.subarray(this.#used, this.#used + missing);
      block.push(part);
      missing -= part.length;
      this.#used += part.length;
      if (this.#used === slice.length) {
        this.#slice++;
        this.#used = 0;
      }
    }
    return block;
  }
}

/** How far what is at `at` goes on as zeroes, or as unreadable; kind null: it must be read. */
async function stretchOf(
  piece: Piece,
  at: number,
  limit: number,
  image: BaseImage | null,
): Promise<{ readonly kind: BlockKind | null; readonly to: number }> {
  switch (piece.kind) {
    case 'zero':
      return { kind: BlockKind.Zero, to: piece.to };
    case 'unreadable':
      return { kind: BlockKind.Unreadable, to: piece.to };
    case 'journal':
      return { kind: null, to: piece.to };
    case 'base': {
      if (image === null) return { kind: BlockKind.Zero, to: piece.to };
      const data = await image.nextData(at);
      const dataFrom = data === null ? Infinity : data.position;
      return dataFrom > at ? { kind: BlockKind.Zero, to: Math.min(piece.to, dataFrom, limit) } : { kind: null, to: at };
    }
  }
}
