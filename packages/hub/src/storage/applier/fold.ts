/**
 * Folds one layer into the base images: in address order, in batches bounded in memory; neighbouring writes become one,
 * payload that lies close together in the journal is read at once.
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

const BATCH_EXTENTS = 4096;
const BATCH_BYTES = 8 * 1024 * 1024;
/** One read or write of the base, at most. */
const LARGEST_BYTES = 1024 * 1024;
/** Journal bytes that are read for nothing rather than beginning another read. */
const LARGEST_WASTE_BYTES = 16 * 1024;
/** Calls under way at once: the thread pool also writes and syncs the journal. */
const CALLS = 2;

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly position: number;
  data: Buffer | null;
}

export interface FoldResult {
  readonly bytesWritten: number;
  readonly bytesZeroed: number;
  readonly touched: ReadonlySet<BaseImage>;
}

/** Puts all of the layer's content into the images; nothing is synced. `stopped` is asked between batches; then the result is null. */
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
    for (;;) {
      const pieces: Piece[] = [];
      const zeroes: { readonly start: number; readonly end: number }[] = [];
      let bytes = 0;
      let more = index.seek(offset, extent);
      while (more && pieces.length + zeroes.length < BATCH_EXTENTS && bytes < BATCH_BYTES) {
        offset = extent.end;
        if (extent.place === Place.Zero) zeroes.push({ start: extent.start, end: extent.end });
        else if (extent.place >= 0) {
          const { start, end, place } = extent;
          pieces.push({ offset: start, length: end - start, position: place, data: null });
          bytes += end - start;
        }
        more = index.next(extent);
      }
      if (pieces.length + zeroes.length > 0) {
        if (stopped()) return null;
        for (const { start, end } of zeroes) {
          await image.zero(start, end - start);
          bytesZeroed += end - start;
        }
        await readPieces(pieces, journal);
        await writePieces(pieces, image);
        bytesWritten += bytes;
      }
      if (!more) break;
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

async function readPieces(pieces: readonly Piece[], journal: JournalReader): Promise<void> {
  const sorted = [...pieces].sort((one, other) => one.position - other.position);
  const reads: Piece[][] = [];
  let group: Piece[] = [];
  let from = 0;
  let end = 0;
  let room = 0;
  for (const piece of sorted) {
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

async function writePieces(pieces: readonly Piece[], image: BaseImage): Promise<void> {
  const writes: { readonly offset: number; readonly chunks: Buffer[]; end: number }[] = [];
  for (const piece of pieces) {
    const last = writes[writes.length - 1];
    const data = piece.data as Buffer;
    if (last !== undefined && last.end === piece.offset && last.end - last.offset + piece.length <= LARGEST_BYTES) {
      last.chunks.push(data);
      last.end += piece.length;
    } else {
      writes.push({ offset: piece.offset, chunks: [data], end: piece.offset + piece.length });
    }
  }
  await inParallel(writes, async (write) => {
    await image.write(write.chunks, write.offset);
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
