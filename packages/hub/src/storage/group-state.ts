/** A snapshot of one group's storage for those outside: put together from what the store and its main line know. Pure. */
import type { LineStore } from './line-store.js';
import type { Room } from './room.js';
import type { Seed } from './seed/seeds.js';
import type { GroupState, LeftBehind, Owner, StallReason, VolumeState } from './store-types.js';

/** The counters alone, for per-batch use. */
export interface Progress {
  lastNumber: number;
  receivedNumber: number;
  durableNumber: number;
  consistentNumber: number | null;
  stalled: StallReason | null;
  congested: boolean;
}

export interface StoreParts {
  readonly group: string;
  readonly owner: Owner | null;
  readonly main: LineStore | null;
  readonly room: Room;
  readonly progress: Readonly<Progress>;
  /** Why the line before this one was put aside, until this one has a consistent point. */
  readonly setAsideWhy: string | null;
  readonly openViews: number;
  readonly branches: readonly string[];
  readonly leftBehind: readonly LeftBehind[];
  readonly seeds: readonly Seed[];
}

export function groupStateOf(parts: StoreParts): GroupState {
  const { main, progress } = parts;
  const applyFault = main?.applier.fault ?? null;
  const waitsFor = main?.applier.waitsFor ?? null;
  const journalWaits = progress.stalled === 'journal-waits' ? (main?.writer.waitsFor ?? null) : null;
  const { freeBytes, reserveBytes } = parts.room;
  const short = main?.spanRoom.short ?? null;
  return {
    group: parts.group,
    line: main?.line ?? null,
    owner: parts.owner,
    volumes: main === null ? [] : volumeStates(main),
    lastNumber: main?.appended.number ?? 0,
    lastChecksum: main?.appended.checksum ?? 0,
    durableNumber: progress.durableNumber,
    consistentNumber: progress.consistentNumber,
    consistentTimeUs: progress.consistentNumber === null ? 0 : (main?.timeline.state.consistentTimeUs ?? 0),
    spanOpen: main?.appended.spanOpen ?? false,
    appliedNumber: main?.applier.appliedNumber ?? 0,
    journalBytes: main?.segments.bytes ?? 0,
    indexBytes: main?.timeline.memory.bytes ?? 0,
    queuedBytes: main?.writer.queuedBytes ?? 0,
    stalled: progress.stalled,
    corrupted: main?.damage ?? (progress.consistentNumber === null ? parts.setAsideWhy : null),
    wantsComparison: main?.wantsComparison ?? false,
    openViews: parts.openViews,
    branches: parts.branches,
    ...(parts.leftBehind.length === 0 ? {} : { leftBehind: parts.leftBehind }),
    ...(parts.seeds.length === 0 || progress.consistentNumber !== null ? {} : { seeds: parts.seeds }),
    ...(applyFault === null ? {} : { applyFailed: applyFault.message }),
    ...(journalWaits === null ? {} : { journalWaits: journalWaits.message }),
    ...(waitsFor === null ? {} : { applyWaits: waitsFor.message }),
    ...(Number.isFinite(freeBytes) ? { room: { freeBytes, reserveBytes } } : {}),
    ...(short === null ? {} : { spanShort: short }),
    ...(main?.timeline.lastGoodDropped === true ? { lastGoodDropped: true } : {}),
  };
}

function volumeStates(main: LineStore): VolumeState[] {
  const unreadable = new Map<number, number>();
  for (const volume of main.timeline.volumes) {
    if (volume.unreadable.count > 0) unreadable.set(volume.added, volume.unreadable.coveredBytes());
  }
  return main.appended.volumes().map(({ index, name, sizeBytes, added }) => ({
    index,
    name,
    sizeBytes,
    unreadableBytes: unreadable.get(added) ?? 0,
  }));
}
