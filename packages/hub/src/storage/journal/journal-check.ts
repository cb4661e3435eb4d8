/**
 * Reads a stretch of the journal once more before it becomes part of the base images, which have no checksums of their own:
 * what has rotted since it came, or what the disk never wrote, is named and does not become the replica.
 *
 * Must not know: what the records say.
 */
import { CorruptionFault, ProtocolFault } from '@rephub/platform';
import { scanFrames } from './journal-scan.js';
import type { Segment, SegmentSet } from './segments.js';

/** Between two positions where frames begin or end. */
export interface Stretch {
  readonly from: number;
  readonly to: number;
  /** Header checksum of the record before it. */
  readonly checksum: number;
}

/**
 * True when every frame matches its checksums and follows the one before; false when `stopped` said so first. Throws
 * CorruptionFault `journal-damaged` where one does not, and StorageFaults of the disk.
 */
export async function isWhole(segments: SegmentSet, stretch: Stretch, stopped: () => boolean): Promise<boolean> {
  let { from, checksum } = stretch;
  const { to } = stretch;
  while (from < to) {
    if (stopped()) return false;
    const segment = segments.find(from) ?? next(segments, from);
    if (segment === null) throw new CorruptionFault('journal-missing', `no journal segment holds position ${from}`);
    const start = Math.max(from, segment.base + segment.headerBytes);
    const end = Math.min(to, segment.end);
    const opened = segments.acquire(segment);
    try {
      const file = await opened;
      const { position, why, unread } = await scanFrames(file, segment.base, start, end, (header) => {
        if (header.previousChecksum !== checksum) {
          throw new ProtocolFault('record-chain', `record ${header.number} does not follow the one before it`);
        }
        checksum = header.headerChecksum;
      });
      if (unread !== null) throw unread;
      if (why !== null) {
        const where = `position ${position} (${segment.path})`;
        throw new CorruptionFault('journal-damaged', `a record at ${where} is damaged: ${why}`);
      }
    } finally {
      segments.release(segment);
    }
    from = end;
  }
  return true;
}

/** The first segment above a position that lies in none: what is between them was passed by after damage. */
function next(segments: SegmentSet, position: number): Segment | null {
  return segments.list.find(({ base }) => base >= position) ?? null;
}
