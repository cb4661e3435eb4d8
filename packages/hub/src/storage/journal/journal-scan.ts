/**
 * Reads a stretch of one segment frame by frame, checking each, until it ends, or until a frame is bad.
 * Must not know: what a bad frame means here; that is judged in recovery.
 */
import { Fault, type OpenFile, SlabPool, StorageFault } from '@rephub/platform';
import { frameBytes, type FrameHeader, FrameReader } from '@rephub/protocol';

const CHUNK_BYTES = 1024 * 1024;
/** Memory that is read into, for all scans: most need one chunk, and one that holds the beginning of a frame. */
const chunks = new SlabPool(4 * CHUNK_BYTES);

/**
 * Takes a whole frame, whose bytes are its own until it returns; throws a ProtocolFault when it is not the one that may come
 * here. `position` is its first byte.
 */
export type FrameTaker = (header: FrameHeader, raw: readonly Buffer[], position: number) => void;

export interface ScanResult {
  /** Position after the last good frame. */
  readonly position: number;
  /** Why it ended before `end`; null when the frames end exactly there. */
  readonly why: string | null;
  /** The disk did not give what is there: that says nothing of the frames. Then this is why. */
  readonly unread: StorageFault | null;
}

/**
 * Frames from `from` up to `end` (positions; `base` is the file's first byte). `end` may lie beyond the file's end: then
 * it ends with the file.
 */
export async function scanFrames(
  file: OpenFile,
  base: number,
  from: number,
  end: number,
  take: FrameTaker,
): Promise<ScanResult> {
  let position = from;
  const reader = new FrameReader({
    frame(header, raw) {
      take(header, raw, position);
      position += frameBytes(header);
    },
  });
  let at = from;
  while (at < end) {
    const slab = chunks.take(CHUNK_BYTES);
    try {
      const chunk = slab.memory.subarray(0, Math.min(CHUNK_BYTES, end - at));
      const read = await file.read(chunk, at - base, true);
      reader.push(chunk.subarray(0, read));
      at += read;
      if (read < chunk.length) break;
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      return { position, why: error.message, unread: error instanceof StorageFault ? error : null };
    } finally {
      slab.release();
    }
  }
  if (reader.atBoundary && (at >= end || end === Infinity)) return { position, why: null, unread: null };
  return { position, why: reader.atBoundary ? 'the file ends early' : 'the last frame is cut short', unread: null };
}
