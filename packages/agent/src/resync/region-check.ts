/**
 * Compares one region with the hub at one number, while the guest goes on: reads it under its range lock, takes the
 * number that it is at, and asks for digests of the hub's content at exactly that number (docs/design.md, "Verification").
 *
 * Always holds: what is marked, cannot be read, or was not answered for is a refusal with its reason, never "same".
 * Must not know: why it is compared, what becomes of a difference.
 */
import { type Tracker } from '@rephub/bitmap';
import { DeviceError, readSlices } from '@rephub/nbd';
import { BlockKind } from '@rephub/protocol';
import { type BackgroundReads } from './background-reads.js';
import { BLOCK_BYTES, type BlockRun, compareBlocks } from './compare.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type Answer, type HashClient } from './hash-client.js';
import { holeAt } from './hole-at.js';
import { type Mirror } from '../mirror/mirror.js';
import { withRange } from '../range-lock.js';
import { isStreamed } from '../mirror/stream-state.js';

export const NO_HUB = 'there is no hub that could answer';
/** What is read at once; a hole may be longer. */
export const REGION_BYTES = 1024 * 1024;
export const ANSWER_TIMEOUT_MS = 30_000;

export interface Region {
  readonly volume: GuestVolume;
  readonly offset: number;
  readonly length: number;
}

/** The region's first `coveredBytes` (one at least), told apart in runs from its beginning. */
export interface CheckedRegion {
  readonly coveredBytes: number;
  /** It is a hole here: nothing was read. */
  readonly isHole: boolean;
  readonly runs: readonly BlockRun[];
}

export interface RegionCheckParts {
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly hashes: HashClient;
  readonly reads: BackgroundReads;
}

/**
 * Compares the region, or its first part. The reason when it could not be told; `beforeReading` is waited for, with
 * the bytes that may be read.
 */
export async function checkRegion(
  parts: RegionCheckParts,
  region: Region,
  beforeReading: (bytes: number) => Promise<void>,
  timeoutMs = ANSWER_TIMEOUT_MS,
): Promise<CheckedRegion | string> {
  const { hashes } = parts;
  if (!hashes.available) return NO_HUB;
  const bytes = region.length <= REGION_BYTES ? region.length : 0;
  await beforeReading(bytes);
  const read = await parts.reads.run(bytes, () => readAndAsk(parts, region, timeoutMs));
  if (typeof read === 'string') return read;
  const answer = await read.answer;
  if (answer === null) return hashes.lastRefusal ?? 'the hub did not answer';
  const runs = read.slices === null ? kindsAsRuns(answer) : compareBlocks(read.slices, answer);
  const coveredBytes = Math.min(region.length, answer.region.coveredBytes);
  return { coveredBytes, isHole: read.slices === null, runs };
}

/** What upstream holds (null: zeroes), and the question for the number that it was read at; or why that cannot be had now. */
async function readAndAsk(
  { hashes, mirror, tracker }: RegionCheckParts,
  { volume, offset, length }: Region,
  timeoutMs: number,
): Promise<{ readonly slices: Buffer[] | null; readonly answer: Promise<Answer | null> } | string> {
  return await withRange(volume.lock, offset, length, async () => {
    let slices: Buffer[] | null = null;
    if ((await holeAt(volume.reader, offset, length)) < length) {
      if (length > REGION_BYTES) return 'it was written to';
      try {
        slices = await readSlices(volume.reader, offset, length);
      } catch (fault) {
        if (!(fault instanceof DeviceError)) throw fault;
        return volume.upstreamIsUp() ? `upstream cannot read: ${fault.message}` : 'upstream is away';
      }
    }
    // From here to the question in one turn: nothing is numbered in between.
    if (!hashes.available) return NO_HUB;
    if (!isStreamed(mirror.state)) return 'the stream is not in step';
    const dirty = tracker.nextDirty(volume.index, offset);
    if (dirty !== null && dirty.offset < offset + length) return 'it is marked, so not known to be equal';
    const { lastNumber: number } = mirror;
    const question = { number, volume: volume.index, offset, length, blockBytes: BLOCK_BYTES };
    return { slices, answer: hashes.ask(question, timeoutMs) };
  });
}

/** A region that reads as zeroes here, against what the hub holds. */
function kindsAsRuns({ region }: Answer): BlockRun[] {
  const runs: BlockRun[] = [];
  const { blockBytes, coveredBytes } = region;
  for (let from = 0; from < coveredBytes;) {
    const block = from / blockBytes;
    const kind = region.kind(block);
    const to = Math.min(coveredBytes, region.runEnd(block) * blockBytes);
    const verdict = kind === BlockKind.Zero ? 'same' : kind === BlockKind.Data ? 'differs' : 'unknown';
    runs.push({ from, to, verdict });
    from = to;
  }
  return runs;
}
