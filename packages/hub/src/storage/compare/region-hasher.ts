/**
 * Digests of a region as it is at the newest number of a line, block by block.
 *
 * Always holds: everything is looked up in the turn of the call, and what was found then is read, however long that
 * takes: journal segments in use stay, and a pin keeps newer records from being folded into the base image meanwhile. So
 * the answer is the content at that number, or none (the pin was taken away).
 * Must not know: sessions, what the answer is for.
 */
import { asError, type Logger, ProtocolFault, StorageFault } from '@rephub/platform';
import { allZero, BlockKind, digestOf, HashesBuilder, type HashRegion, type RegionHashes } from '@rephub/protocol';
import type { BaseImage } from '../base/base-image.js';
import type { BaseSet } from '../base/base-set.js';
import { Place } from '../index/extent-leaf.js';
import { Resolver } from '../index/run-list.js';
import type { JournalReader } from '../journal/journal-reader.js';
import type { Timeline } from '../layers/timeline.js';

/** Content read for one answer, at most, beyond its last block: an answer stops short rather than take long. */
const ANSWER_BYTES = 2 * 1024 * 1024;
/** Looked up at once, so that a region of many pieces does not keep the event loop. */
const LOOK_UP_BYTES = 64 * 1024 * 1024;
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
  readonly #windows: Buffer[] = [];

  constructor(parts: HasherParts) {
    this.#parts = parts;
  }

  /**
   * The region as of the timeline's newest number. Rejects with a ProtocolFault `hash-volume`, `hash-range`; a StorageFault
   * `hash-expired` when the point had to go.
   */
  async hash(request: HashRegion): Promise<RegionHashes> {
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
    const pin = timeline.pinNow((why) => {
      point.expired = why;
    });
    try {
      const found = this.#lookUp(request, volume);
      const image = await this.#parts.base.imageOrSeed(volume.added, volume.name, volume.sizeBytes);
      const builder = new HashesBuilder(request.blockBytes);
      await this.#fill(builder, request, found, image);
      if (point.expired !== null) {
        throw new StorageFault('hash-expired', `the point was taken away: ${point.expired}`);
      }
      return builder.build();
    } finally {
      timeline.unpin(pin);
      this.#parts.released();
    }
  }

  /** In one turn: the pieces of as much of the region as an answer may speak of; reads from the journal begin. */
  #lookUp(request: HashRegion, volume: Parameters<Timeline['resolve']>[2]): Piece[] {
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
          const bytes = Buffer.allocUnsafe(to - from);
          const read = journal.read(bytes, place);
          // Waited for later, or not at all: then a failure is nobody's.
          read.catch(() => undefined);
          pieces.push({ from, to, kind: 'journal', bytes, read });
          journalBytes += bytes.length;
        } else {
          const kind = place === Place.Gap ? 'base' : place === Place.Unreadable ? 'unreadable' : 'zero';
          const last = pieces.at(-1);
          if (last?.kind === kind) last.to = to;
          else pieces.push({ from, to, kind, bytes: null, read: DONE });
        }
        if (to < runs.end(run) || journalBytes >= ANSWER_BYTES || pieces.length >= MOST_PIECES) return pieces;
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
    const window = this.#windows.pop() ?? Buffer.allocUnsafeSlow(WINDOW_BYTES);
    const bytes = window.subarray(0, to - from);
    try {
      if (await this.#read(bytes, found, image, from)) {
        for (let at = 0; at < bytes.length && !builder.isFull; at += request.blockBytes) {
          const block = [bytes.subarray(at, at + request.blockBytes)];
          const length = block[0]?.length ?? 0;
          if (allZero(block)) builder.add(BlockKind.Zero, length);
          else builder.add(BlockKind.Data, length, digestOf(request.key, block));
        }
      } else if (to - from > request.blockBytes) {
        for (let at = from; at < to && !builder.isFull; at += request.blockBytes) {
          await this.#window(builder, request, found, image, at, Math.min(to, at + request.blockBytes));
        }
      } else builder.add(BlockKind.Unreadable, to - from);
    } finally {
      this.#windows.push(window);
    }
  }

  /** False when some of it cannot be read. */
  async #read(bytes: Buffer, found: readonly Piece[], image: BaseImage | null, from: number): Promise<boolean> {
    const to = from + bytes.length;
    const reads: Promise<void>[] = [];
    for (const piece of found) {
      if (piece.to <= from || piece.from >= to) continue;
      const begin = Math.max(piece.from, from);
      const end = Math.min(piece.to, to);
      const part = bytes.subarray(begin - from, end - from);
      if (piece.kind === 'unreadable') return false;
      if (piece.bytes !== null) {
        const source = piece.bytes.subarray(begin - piece.from, end - piece.from);
        reads.push(piece.read.then(() => void source.copy(part)));
      } else if (piece.kind === 'zero' || image === null) part.fill(0);
      else reads.push(image.read(part, begin));
    }
    try {
      await Promise.all(reads);
      return true;
    } catch (error) {
      await Promise.allSettled(reads);
      this.#parts.log.warn('hash-read-failed', { offset: from, length: bytes.length, message: asError(error).message });
      return false;
    }
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
