/**
 * How much of what is marked is holes, by `base:allocation`: these cost a resync neither reading nor sending, so its
 * percentage and time left speak of the rest. Asked once, beside the copying; nothing is read.
 *
 * Must not know: who copies, and how far that has come.
 */
import { type Tracker } from '@rephub/bitmap';
import { DeviceError } from '@rephub/nbd';
import { allocationRuns, tellsAllocation } from '../guest/allocation.js';
import { type GuestVolume } from '../guest/guest-volume.js';

/** Questions are quick, and so many take seconds at most; what lies beyond them counts as data. */
const MOST_ASKED = 4096;
const MOST_HOLES = 65_536;

interface Hole {
  readonly volume: number;
  readonly offset: number;
  readonly length: number;
}

/** What upstream says of all that is marked now. `goOn` is asked before each question. */
export async function markedHoles(
  volumes: readonly GuestVolume[],
  tracker: Pick<Tracker, 'nextDirty'>,
  goOn: () => boolean,
): Promise<readonly Hole[]> {
  const holes: Hole[] = [];
  let asked = 0;
  for (const { index: volume, reader } of volumes) {
    if (!tellsAllocation(reader)) continue;
    let marked = tracker.nextDirty(volume, 0);
    while (marked !== null && asked < MOST_ASKED && holes.length < MOST_HOLES && goOn()) {
      asked += 1;
      let at = marked.offset;
      try {
        for (const { lengthBytes, isZero } of await allocationRuns(reader, at, marked.length)) {
          const length = Math.min(lengthBytes, marked.offset + marked.length - at);
          if (isZero && length > 0) holes.push({ volume, offset: at, length });
          at += length;
        }
      } catch (fault) {
        if (!(fault instanceof DeviceError)) throw fault;
        return holes;
      }
      if (at === marked.offset) return holes;
      marked = tracker.nextDirty(volume, at);
    }
  }
  return holes;
}

/** Bytes of these holes that are marked still. */
export function stillMarkedBytes(holes: readonly Hole[], tracker: Pick<Tracker, 'nextDirty'>): number {
  let bytes = 0;
  for (const { volume, offset, length } of holes) {
    const end = offset + length;
    let run = tracker.nextDirty(volume, offset);
    while (run !== null && run.offset < end) {
      const to = Math.min(end, run.offset + run.length);
      bytes += to - Math.max(offset, run.offset);
      run = to < end ? tracker.nextDirty(volume, to) : null;
    }
  }
  return bytes;
}
