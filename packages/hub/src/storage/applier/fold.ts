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
import type { Layer, Volume } from '../layers/layer.js';

/** Extents that are put in the journal's order together: many, so that reading it has few gaps. */
const BATCH_EXTENTS = 64 * 1024;
/** Payload in memory at once. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** One read or write of the base, at most. */
const LARGEST_BYTES = 1024 * 1024;
/** Journal bytes that are read for nothing rather than beginning another read. */
const LARGEST_WASTE_BYTES = 16 * 1024;
/** Calls under way at once: the thread pool also writes and syncs the journal. */
const CALLS = 2;

const NO_DATA = Buffer.alloc(0);

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly position: number;
  data: Buffer;
}

export interface FoldResult {
  readonly bytesWritten: number;
  readonly bytesZeroed: number;
  readonly touched: ReadonlySet<BaseImage>;
}

/** Puts all of the layer's content into the images; nothing is synced. `stopped` is asked between steps; then the result is null. */
export async function foldLayer(
  layer: Layer,
  base: BaseSet,
  journal: JournalReader,
  stopped: () => boolean,
): Promise<FoldResult | null> {
  const touched = new Set<BaseImage>();
  const removed = new Set<Volume>();
  let bytesWritten = 0;
  let bytesZeroed = 0;
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
    if (removed.has(volume) || image === null) continue;
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
          bytesZeroed += end - start;
          zeroes += 1;
          // The index may have been searched by others meanwhile.
          more = index.seek(offset, extent);
          continue;
        }
        more = index.next(extent);
      }
      pieces.sort((one, other) => one.position - other.position);
      for (const window of windowsOf(pieces)) {
        if (stopped()) return null;
        await readPieces(window, journal);
        window.sort((one, other) => one.offset - other.offset);
        bytesWritten += await writePieces(window, image);
      }
    }
  }
  for (const { kind, volume } of layer.changes) {
    const image = base.image(volume.added);
    if (kind === 'removed') {
      if (image !== null) touched.delete(image);
      await base.putAside(volume.added, volume.name, layer.lastNumber);
    } else if (kind === 'resized' && image !== null && !removed.has(volume)) {
      await image.resize(lastSize(layer, volume));
      touched.add(image);
    }
  }
  return { bytesWritten, bytesZeroed, touched };
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

/** `pieces` are in the journal's order. */
async function readPieces(pieces: readonly Piece[], journal: JournalReader): Promise<void> {
  const reads: Piece[][] = [];
  let group: Piece[] = [];
  let from = 0;
  let end = 0;
  let room = 0;
  for (const piece of pieces) {
    const pieceEnd = piece.position + piece.length;
    const joins =
      group.length > 0 &&
      piece.position - end <= LARGEST_WASTE_BYTES &&
      pieceEnd - from <= Math.min(LARGEST_BYTES, room);
    if (!joins) {
      group = [];
      reads.push(group);
      from = piece.position;
      end = from;
      room = journal.bytesToSegmentEnd(from);
    }
    group.push(piece);
    end = Math.max(end, pieceEnd);
  }
  await inParallel(reads, async (together) => {
    const first = together[0] as Piece;
    let last = 0;
    for (const piece of together) last = Math.max(last, piece.position + piece.length);
    const buffer = Buffer.allocUnsafe(last - first.position);
    await journal.read(buffer, first.position);
    for (const piece of together) {
      const at = piece.position - first.position;
      piece.data = buffer.subarray(at, at + piece.length);
    }
  });
}

/** `pieces` are in address order. Resolves to the bytes written; what they held is let go. */
async function writePieces(pieces: readonly Piece[], image: BaseImage): Promise<number> {
  let bytes = 0;
  const writes: { readonly offset: number; readonly chunks: Buffer[]; end: number }[] = [];
  for (const piece of pieces) {
    const last = writes[writes.length - 1];
    const { data } = piece;
    piece.data = NO_DATA;
    bytes += data.length;
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
  return bytes;
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
