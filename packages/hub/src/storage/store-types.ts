/**
 * What the rest of the hub sees of one group's storage: the types of GroupStore, its views and branches.
 *
 * Always holds: no mutable state is shared between two groups; a store can live in a thread of its own.
 * Must not know: sessions, sockets, HTTP, how many groups there are.
 */
import type { BlockDevice } from '@rephub/nbd';
import type { Fault, Logger, Platform } from '@rephub/platform';
import type { Seed } from './seed/seeds.js';

export type { Seed } from './seed/seeds.js';
import type { FrameHeader, HashRegion, HubGroup, Line, RegionHashes, VolumeDescription } from '@rephub/protocol';
import type { SharedMemory } from './shared-memory.js';

export type StorePlatform = Pick<Platform, 'clock' | 'randomness' | 'files'> & Partial<Pick<Platform, 'codecs'>>;

export interface GroupStoreOptions {
  /** DATA/groups/GROUP; made when missing. */
  readonly directory: string;
  readonly group: string;
  /** Named in every segment header. */
  readonly hubId: string;
  /** Records stay unapplied for so long, by agent time; 0: applied as soon as possible. */
  readonly retentionMs: number;
  /** Memory for the indexes of what is not applied; more than that shortens the retention from the old end. For a group alone. */
  readonly indexBytes: number;
  /** In the place of `indexBytes`, and in front of `queueBytes`: what this group shares with others. */
  readonly memory?: StoreMemory;
  /** Journal on disk, at most (an open span may exceed it); no limit when left out. */
  readonly journalMaxBytes?: number;
  /** Room on the disk that is kept for protection; 5 % of the disk or 1 GiB, whichever is less, when left out. */
  readonly reserveBytes?: number;
  /** A segment is closed at this size; 64 MiB when left out. */
  readonly segmentBytes?: number;
  /** Bytes appended and not yet written: above it the store is congested; 16 MiB when left out. */
  readonly queueBytes?: number;
  readonly log: Logger;
  /** This process knows that so much of a line was durable, whatever the disk says by now: damage below it is never cut. */
  readonly knownDurable?: { readonly line: string; readonly number: number };
  /** True: nothing is folded for now, unless a drain asks for it. After that has changed, `lookAtRoom` lets it go on. */
  readonly isQuiet?: () => boolean;
  /** True: the store is not wanted any more. Asked while the journal is read, which then ends with an error. */
  readonly isGivenUp?: () => boolean;
}

/** What the groups of a hub share. */
export interface StoreMemory {
  /** For the indexes of what is not applied. */
  readonly indexes: SharedMemory;
  /** For what was appended and is not written yet. */
  readonly queues: SharedMemory;
}

/** The agent that may write to the group. */
export interface Owner {
  readonly agentId: string;
  readonly session: number;
  readonly nonce: string;
}

export type StallReason = 'disk-full' | 'journal-waits' | 'journal-failed';

/** A branch that is over, and could not be removed so far. */
export interface LeftBehind {
  readonly name: string;
  /** What it holds on the disk; null when that is not known. */
  readonly bytes: number | null;
  readonly why: string;
}

export interface VolumeState extends VolumeDescription {
  /** Bytes that upstream could not read, as of `durableNumber`: reads of them fail. */
  readonly unreadableBytes: number;
}

export interface GroupState {
  readonly group: string;
  /** Null until the first line has begun. */
  readonly line: Line | null;
  readonly owner: Owner | null;
  /** As of `lastNumber`. */
  readonly volumes: readonly VolumeState[];
  /** The last record appended, and its header checksum; 0 (or the parent's number) and the chain's start on a new line. */
  readonly lastNumber: number;
  readonly lastChecksum: number;
  /** Synced: survives a power cut. */
  readonly durableNumber: number;
  /**
   * The newest number that can be opened, never above `durableNumber`; null before the first sync has ended, and while
   * damage has left only points below what the base images hold.
   */
  readonly consistentNumber: number | null;
  /** Agent time of the record at `consistentNumber`, microseconds since 1970; 0 when there is none. */
  readonly consistentTimeUs: number;
  /** A span has begun and not ended, as of `lastNumber`. */
  readonly spanOpen: boolean;
  /** Everything up to here is in the base images. */
  readonly appliedNumber: number;
  /** Bytes of journal segments on disk, branches not counted. */
  readonly journalBytes: number;
  readonly indexBytes: number;
  /** Appended and not yet written. */
  readonly queuedBytes: number;
  readonly stalled: StallReason | null;
  /** What is damaged, for people; null when nothing is. Heals when a full comparison's span has ended. */
  readonly corrupted: string | null;
  /** All must be compared for that, and no span that does it is known to be under way. */
  readonly wantsComparison: boolean;
  /** Why the base images are not brought up to date any more; only another opening changes that. Left out while all is well. */
  readonly applyFailed?: string;
  /** What the journal waits for to pass, when that is not room. Left out while it does not wait. */
  readonly journalWaits?: string;
  /** Why they are not for now; it is tried again by itself. Left out while all is well. */
  readonly applyWaits?: string;
  /** The disk, as of the last look; left out while nothing is known of it. */
  readonly room?: { readonly freeBytes: number; readonly reserveBytes: number };
  /** A resync was refused: with the last good point kept, it may not fit. Left out when none was, or it would fit by now. */
  readonly spanShort?: { readonly neededBytes: number; readonly shortBytes: number };
  /** An operator gave the last good point up for the resync that is under way. */
  readonly lastGoodDropped?: true;
  readonly openViews: number;
  readonly branches: readonly string[];
  /** Branches that are over, and hold room and their names still: removing them is tried again. Left out when there are none. */
  readonly leftBehind?: readonly LeftBehind[];
  /** What the group was seeded with, until its first sync has ended. */
  readonly seeds?: readonly Seed[];
}

/** All are called from the event loop, never from within the store's own methods but `append` (only `congested`). */
export interface GroupStoreListener {
  /** One of the two has risen. */
  progressed(receivedNumber: number, durableNumber: number): void;
  /** Acknowledgements have stopped, or go on again (null). A full disk, and a journal that waits, go on by themselves; a failed one needs a restart. */
  stalled(reason: StallReason | null): void;
  /** True: stop reading from the session; false: go on. */
  congested(now: boolean): void;
  /** The store can do no more of what the fault says; already in `state` and logged. */
  failed(fault: Fault): void;
}

/** A point that is open: all volumes at one number, the same bytes however long it is open (PIT). */
export interface View {
  readonly number: number;
  /** Agent time of the point, microseconds since 1970. */
  readonly agentTimeUs: number;
  readonly line: string;
  readonly volumes: readonly VolumeDescription[];
  /** A read-only device; several may be open. Throws a ConfigFault `unknown-volume`. */
  device(volumeName: string): BlockDevice;
  /** Called once when a hard limit took the point away: reads fail with EIO from then on. Called at once when it has. */
  onExpired(listener: (why: string) => void): void;
  /** Waits for reads in flight, then lets go of the point. Harmless twice. */
  close(): Promise<void>;
}

export interface ViewOptions {
  /** A consistent number that is still kept; the newest when left out. */
  readonly at?: number;
}

export interface BranchOptions extends ViewOptions {
  /** The branch's own journal, at most; then writes fail with ENOSPC and `onOver` is told. */
  readonly scratchBytes: number;
}

/** A branch of the log on top of a point, for a test: read-write, and nothing of it touches the replica (ISOLATE). */
export interface Branch {
  readonly name: string;
  readonly number: number;
  readonly agentTimeUs: number;
  readonly volumes: readonly VolumeDescription[];
  /** Its own line; null until the first write. */
  readonly line: Line | null;
  /** Bytes of its own journal. */
  readonly scratchBytes: number;
  /** A read-write device: a write is answered when it is in the branch's file, FUA and flush when it is synced. */
  device(volumeName: string): BlockDevice;
  /** The scratch limit was reached, the disk is full, or the point expired. Called once; at once when it has happened. */
  onOver(listener: (why: string) => void): void;
  /**
   * Waits for requests in flight, closes, removes everything of the branch. Harmless twice. Throws what keeps it from being
   * removed for now: that is tried again by itself, and the name is free when it has gone.
   */
  drop(): Promise<void>;
}

export interface GroupStore {
  /** A snapshot of this moment; made anew by each look at it, but `lastNumber` and the like are cheap on `progress`. */
  readonly state: GroupState;
  /** The counters alone, for per-batch use; one object, changing. */
  readonly progress: {
    readonly lastNumber: number;
    /** In the journal file: survives a killed hub. */
    readonly receivedNumber: number;
    readonly durableNumber: number;
    readonly consistentNumber: number | null;
    readonly stalled: StallReason | null;
    readonly congested: boolean;
  };
  listener: GroupStoreListener | null;
  /**
   * False once a write or a sync of the journal, or a sync of the decisions, has failed: what the disk shows from then on may be
   * on no disk, and only an operator knows whether to believe it. Stays when the store is closed.
   */
  readonly isTrusted: boolean;
  /**
   * No agent has ever begun it, and nothing was seeded: it holds nothing that anybody could miss, whatever an attempt to make
   * it has left on the disk.
   */
  readonly isBlank: boolean;
  /**
   * For Welcome; null while the group has no owner or no line, so is not known. Await `settled` first: throws a
   * StorageFault (`disk-full`, `journal-waits`, `journal-failed`, `not-settled`) while not all that was appended is durable, because
   * Welcome must not call more durable than is.
   */
  toHubGroup(): HubGroup | null;
  /** Looks how much room the disk has. Await it before a span may come: `append` judges by the last look. Never throws. */
  lookAtRoom(): Promise<void>;
  /**
   * The operator's word: the resync that has no room (`now`), or the next one should it have none (`later`), may be applied
   * before its end, which gives the last good point up. Throws a ConfigFault: `no-consistent-point`, `nothing-short`.
   */
  dropLastGood(whenShort: 'now' | 'later'): void;
  /** Resolves when all that was appended is durable, or will not be (stalled). */
  settled(): Promise<void>;
  /**
   * Puts the raw image file at `path` in place as what a volume's replica begins with; whole and durable when it resolves, or not
   * there at all. Throws a ConfigFault `has-history`, `seed-exists`, `seed-file`; a StorageFault.
   */
  seed(volume: string, path: string): Promise<Seed>;
  /** A copy under way is given up: the hub stops. */
  stopSeeding(): void;
  /** Durable when it resolves. */
  setOwner(owner: Owner): Promise<void>;
  /**
   * The group's first line, or another one after an operator's or the lineage table's word: the old line, with
   * its base, is kept aside (NODISCARD). Durable when it resolves. Does nothing when this is the line already.
   */
  beginLine(line: Line): Promise<void>;
  /**
   * A checked frame. `header` and the array are not kept, the slices are. Throws a ProtocolFault and changes nothing when
   * the record does not fit: `record-line`, `record-number`, `record-chain`, `record-volume`, `record-range`, `record-type`,
   * `record-span`, `record-body`; for a compressed one `payload-codec`, `payload-compressed`, `payload-checksum`; a StorageFault `journal-failed` when the journal is dead.
   * A SpanBegin that has no room beside the last good point: a StorageFault `span-too-big`, retryable.
   * Obeying `congested` is the caller's part: what is appended in spite of it is taken, up to twice the queue, then `queue-full`.
   */
  append(header: FrameHeader, raw: readonly Buffer[]): void;
  /**
   * Digests of a region as it is at exactly `request.number`, an open span's records included; waits until that number is
   * durable. May stop short. Rejects with a ProtocolFault `hash-number` (the line is past it), `hash-volume`, `hash-range`, `record-line`; a
   * StorageFault `hash-expired`, `hash-cancelled`.
   */
  hashRegion(request: HashRegion, signal: AbortSignal): Promise<RegionHashes>;
  /** Throws a ConfigFault: `no-consistent-point`, `unknown-point`, `journal-damaged` (which point is good is not known yet). */
  openView(options?: ViewOptions): Promise<View>;
  /** Throws a ConfigFault: `no-consistent-point`, `unknown-point`, `journal-damaged`, `branch-exists`, `bad-name`; a StorageFault `disk-full`. */
  openBranch(name: string, options: BranchOptions): Promise<Branch>;
  branch(name: string): Branch | null;
  /** Applies everything up to the last consistent number to the base images; views that stand in the way are expired. */
  drain(): Promise<void>;
  /**
   * Syncs what was appended, closes views (which are told `why`) and drops branches; with `drain` the base images alone then
   * hold the last point. No file is open any more when it has ended, well or not.
   */
  close(options: { readonly drain: boolean; readonly why?: string }): Promise<void>;
}
