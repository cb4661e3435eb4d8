/**
 * Folds one layer into the base images, in batches bounded in memory. Payload is read in the journal's order, what lies
 * close together at once; it is written in address order, neighbours as one. Only what was not overwritten is read.
 *
 * Always holds: interrupted anywhere and begun again it ends in the same bytes, for the layer's records are still in the
 * journal; the caller makes it count by writing `applied` afterwards. It runs between other work: a batch at a time, few
 * calls under way.
 * Must not know: which layer may be folded and when.
 */
import type { BaseImage } from '../base/base-image.js';
import type { BaseSet } from '../base/base-set.js';
import { Extent } from '../index/extent-index.js';
import { Place } from '../index/extent-leaf.js';
import type { JournalReader } from '../journal/journal-reader.js';
import { PACKED_FROM } from '../journal/packed-records.js';
import { inJournalOrder } from './journal-order.js';
import type { Layer, Volume } from '../layers/layer.js';

/** Extents that are put in the journal's order together: many, so that reading it has few gaps. */
const BATCH_EXTENTS = 32 * 1024;
/** Payload in memory at once. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Memory that is read to again and again, at most: fresh memory costs more than the copying. */
const LARGEST_ARENA_BYTES = 2 * WINDOW_BYTES;
/** One read or write of the base, at most. */
const LARGEST_BYTES = 1024 * 1024;
/** Journal bytes that are read for nothing rather than beginning another read. */
const LARGEST_WASTE_BYTES = 16 * 1024;
/** Calls under way at once: short ones, so that the journal's do not wait long behind them. */
const CALLS = 4;

const NO_DATA = Buffer.alloc(0);

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly position: number;
  data: Buffer;
}

/** Where a fold's windows are read to: as large as the largest of them needs, for most layers are small. */
interface Arena {
  memory: Buffer;
}

/**
 * Puts all of the layer's content into the images, and resolves to those that it has touched; nothing is synced. `stopped` is
 * asked between steps; then the result is null.
 */
export async function foldLayer(
  layer: Layer,
  base: BaseSet,
  journal: JournalReader,
  stopped: () => boolean,
): Promise<ReadonlySet<BaseImage> | null> {
  const arena: Arena = { memory: NO_DATA };
  const touched = new Set<BaseImage>();
  const removed = new Set<Volume>();
  for (const { kind, volume, sizeBytes } of layer.changes) {
    if (kind === 'removed') removed.add(volume);
    else if (kind === 'added') touched.add(await base.make(volume.added, volume.name, sizeBytes));
    else {
      const image = base.image(volume.added);
      if (image !== null && image.sizeBytes < sizeBytes) {
        await image.resize(sizeBytes);
        touched.add(image);
      }
    }
  }
  for (const [volume, index] of layer.indexes) {
    const image = base.image(volume.added);
    // One that is to be put aside gets what it lacks, too: that name says that it was whole.
    if (image === null) continue;
    touched.add(image);
    const extent = new Extent();
    let offset = 0;
    for (let more = true; more;) {
      const pieces: Piece[] = [];
      let zeroes = 0;
      more = index.seek(offset, extent);
      while (more && pieces.length + zeroes < BATCH_EXTENTS) {
        const { start, end, place } = extent;
        offset = end;
        if (place >= 0) pieces.push({ offset: start, length: end - start, position: place, data: NO_DATA });
        else if (place === Place.Zero) {
          if (stopped()) return null;
          await image.zero(start, end - start);
          zeroes += 1;
          // The index may have been searched by others meanwhile.
          more = index.seek(offset, extent);
          continue;
        }
        more = index.next(extent);
      }
      for (const window of windowsOf(ordered(pieces))) {
        if (stopped()) return null;
        await readPieces(window, journal, arena);
        window.sort((one, other) => one.offset - other.offset);
        await writePieces(window, image);
      }
    }
  }
  for (const { kind, volume } of layer.changes) {
    const image = base.image(volume.added);
    if (kind === 'removed') {
      if (image !== null) {
        await image.sync();
        touched.delete(image);
      }
      await base.putAside(volume.added, volume.name, layer.lastNumber);
    } else if (kind === 'resized' && image !== null && !removed.has(volume)) {
      await image.resize(lastSize(layer, volume));
      touched.add(image);
    }
  }
  return touched;
}

/** In the journal's order; those of compressed records, whose places are far from the others', by themselves. */
function ordered(pieces: readonly Piece[]): Piece[] {
  const packed = pieces.filter(({ position }) => position >= PACKED_FROM);
  if (packed.length === 0) return inJournalOrder(pieces);
  return [...inJournalOrder(pieces.filter(({ position }) => position < PACKED_FROM)), ...inJournalOrder(packed)];
}

function lastSize(layer: Layer, volume: Volume): number {
  let sizeBytes = 0;
  for (const change of layer.changes) if (change.volume === volume) ({ sizeBytes } = change);
  return sizeBytes;
}

/** Pieces in order, cut where the payload of a window reaches its limit. */
function* windowsOf(pieces: readonly Piece[]): Generator<Piece[]> {
  let window: Piece[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    if (bytes > 0 && bytes + piece.length > WINDOW_BYTES) {
      yield window;
      window = [];
      bytes = 0;
    }
    window.push(piece);
    bytes += piece.length;
  }
  if (window.length > 0) yield window;
}

/** A stretch of the journal that is read at once. */
interface Stretch {
  readonly pieces: Piece[];
  from: number;
  end: number;
  /** Bytes from `from` to the end of its segment. */
  room: number;
}

/** `pieces` are nearly in the journal's order. */
async function readPieces(pieces: readonly Piece[], journal: JournalReader, arena: Arena): Promise<void> {
  const stretches: Stretch[] = [];
  let last: Stretch | null = null;
  for (const piece of pieces) {
    const { position } = piece;
    const end = position + piece.length;
    const near = last !== null && position >= last.from && position - last.end <= LARGEST_WASTE_BYTES;
    if (last !== null && near && end - last.from <= Math.min(LARGEST_BYTES, last.room)) {
      last.pieces.push(piece);
      last.end = Math.max(last.end, end);
    } else {
      last = { pieces: [piece], from: position, end, room: journal.bytesToSegmentEnd(position) };
      stretches.push(last);
    }
  }
  const memory = roomFor(stretches, arena);
  let used = 0;
  await inParallel(stretches, async (stretch) => {
    const length = stretch.end - stretch.from;
    const fits = used + length <= memory.length;
    const buffer = fits ? memory.subarray(used, used + length) : Buffer.allocUnsafe(length);
    if (fits) used += length;
    await journal.read(buffer, stretch.from, true);
    for (const piece of stretch.pieces) {
      const at = piece.position - stretch.from;
      piece.data = buffer.subarray(at, at + piece.length);
    }
  });
}

/** The arena's memory, made larger where these need more. */
function roomFor(stretches: readonly Stretch[], arena: Arena): Buffer {
  let needed = 0;
  for (const { from, end } of stretches) needed += end - from;
  if (arena.memory.length < Math.min(needed, LARGEST_ARENA_BYTES)) {
    // A power of two, so that windows of growing size do not each ask for new memory.
    const bytes = Math.min(LARGEST_ARENA_BYTES, 2 ** Math.ceil(Math.log2(needed)));
    arena.memory = Buffer.allocUnsafeSlow(bytes);
  }
  return arena.memory;
}

/** `pieces` are in address order; what they held is let go. */
async function writePieces(pieces: readonly Piece[], image: BaseImage): Promise<void> {
  const writes: { readonly offset: number; readonly chunks: Buffer[]; end: number }[] = [];
  for (const piece of pieces) {
    const last = writes[writes.length - 1];
    const { data } = piece;
    piece.data = NO_DATA;
    if (last !== undefined && last.end === piece.offset && last.end - last.offset + piece.length <= LARGEST_BYTES) {
      last.chunks.push(data);
      last.end += piece.length;
    } else {
      writes.push({ offset: piece.offset, chunks: [data], end: piece.offset + piece.length });
    }
  }
  await inParallel(writes, async (write) => {
    await image.write(write.chunks, write.offset);
    write.chunks.length = 0;
  });
}

/** Runs `work` for every item, CALLS at a time; the first failure ends it once what is under way has ended. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const failures: unknown[] = [];
  const run = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const item = items[next] as T;
      next += 1;
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CALLS, items.length) }, run));
  if (failures.length > 0) throw failures[0];
}
