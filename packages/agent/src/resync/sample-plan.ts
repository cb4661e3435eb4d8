/**
 * Which regions of a disk are looked at when a start takes a sample: places that any use of the disk changes (boot
 * sector, partition table, where file systems keep their superblocks), its end, and random ones, spread over what is
 * allocated, so that a change of a large part cannot be missed. Pure but for asking the disk what is allocated.
 */
import { type BlockDevice, DeviceError, readBytes } from '@rephub/nbd';
import { type Randomness } from '@rephub/platform';
import { allocationRuns, type AllocationRun, tellsAllocation } from '../guest/allocation.js';
import { partitionStarts } from './partition-starts.js';

export const SAMPLE_BYTES = 64 * 1024;
const MIB = 1024 * 1024;
/** So many questions are quick; what lies beyond them counts as allocated. */
const MOST_ASKED = 512;
/** Holes cost no reading: so much of one is compared at once, and of so many. */
const HOLE_BYTES = 1024 * MIB;
const MOST_HOLES = 16;

export interface SampledRange {
  readonly offset: number;
  readonly length: number;
}

export interface Allocation {
  readonly data: readonly SampledRange[];
  readonly holes: readonly SampledRange[];
}

/** What the disk says of itself by `base:allocation`; all is data where it cannot tell. */
export async function allocationOf(device: BlockDevice): Promise<Allocation> {
  const { sizeBytes } = device;
  const data: { offset: number; length: number }[] = [];
  const holes: { offset: number; length: number }[] = [];
  const add = (to: typeof data, offset: number, length: number): void => {
    const last = to.at(-1);
    if (last !== undefined && last.offset + last.length === offset) last.length += length;
    else if (length > 0) to.push({ offset, length });
  };
  let at = 0;
  if (tellsAllocation(device)) {
    for (let asked = 0; asked < MOST_ASKED && at < sizeBytes; asked++) {
      const runs = await runsAt(device, at, sizeBytes - at);
      if (runs === null) break;
      for (const { lengthBytes, isZero } of runs) {
        const length = Math.min(lengthBytes, sizeBytes - at);
        add(isZero ? holes : data, at, length);
        at += length;
      }
    }
  }
  add(data, at, sizeBytes - at);
  return { data, holes };
}

/** Null when it cannot tell. */
async function runsAt(device: BlockDevice, offset: number, length: number): Promise<readonly AllocationRun[] | null> {
  try {
    return await allocationRuns(device, offset, length);
  } catch (fault) {
    if (!(fault instanceof DeviceError)) throw fault;
    return null;
  }
}

/** Places that every disk has in use, and where its partitions begin. */
export async function knownPlaces(device: BlockDevice): Promise<number[]> {
  const places = [0, SAMPLE_BYTES, MIB, MIB + SAMPLE_BYTES, device.sizeBytes - 1];
  try {
    const head = await readBytes(device, 0, Math.min(SAMPLE_BYTES, device.sizeBytes));
    for (const start of partitionStarts(head, device.sizeBytes)) places.push(start, start + SAMPLE_BYTES);
  } catch (fault) {
    if (!(fault instanceof DeviceError)) throw fault;
  }
  return places;
}

/** At most `count` random regions of what is allocated, one in each of as many equal parts of it, the known places, and some holes; in order. */
export function samplePlan(
  sizeBytes: number,
  places: readonly number[],
  { data, holes }: Allocation,
  count: number,
  randomness: Pick<Randomness, 'fraction'>,
): SampledRange[] {
  const starts = new Set<number>();
  const take = (at: number): void => {
    if (at >= 0 && at < sizeBytes) starts.add(at - (at % SAMPLE_BYTES));
  };
  for (const place of places) take(place);
  const allocated = data.reduce((sum, { length }) => sum + length, 0);
  let run = 0;
  let before = 0;
  for (let part = 0; part < count && allocated > 0; part++) {
    const wanted = ((part + randomness.fraction()) * allocated) / count;
    while (run + 1 < data.length && wanted >= before + (data[run]?.length ?? 0)) before += data[run++]?.length ?? 0;
    take((data[run]?.offset ?? 0) + Math.floor(wanted - before));
  }
  const chosen = [...starts].map((offset) => ({ offset, length: Math.min(SAMPLE_BYTES, sizeBytes - offset) }));
  const step = Math.max(1, Math.ceil(holes.length / MOST_HOLES));
  const first = Math.floor(randomness.fraction() * step);
  for (let at = first; at < holes.length; at += step) {
    const whole = wholeBlocks(holes[at], sizeBytes);
    if (whole !== null) chosen.push(whole);
  }
  return chosen.sort((one, other) => one.offset - other.offset);
}

/** What of a hole is whole blocks: digests are of these. */
function wholeBlocks(hole: SampledRange | undefined, sizeBytes: number): SampledRange | null {
  if (hole === undefined) return null;
  const offset = Math.ceil(hole.offset / SAMPLE_BYTES) * SAMPLE_BYTES;
  const end = hole.offset + hole.length;
  const to = Math.min(end === sizeBytes ? end : end - (end % SAMPLE_BYTES), offset + HOLE_BYTES);
  return to > offset ? { offset, length: to - offset } : null;
}
