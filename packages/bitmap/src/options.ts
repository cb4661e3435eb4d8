/**
 * What the tracker is given and what it remembers: options, hooks, identity. Shapes only.
 */
import type { Fault, FileLock } from '@rephub/platform';

/** One disk of the group. */
export interface TrackedVolume {
  /** The volume's number in records, 0 to 254; what every call of the tracker takes as `volume`. */
  readonly index: number;
  readonly name: string;
  readonly sizeBytes: number;
}

/** A disk that is to be tracked. Without an index it has the number of its name in this directory (numbers.ts). */
export type WantedVolume = Omit<TrackedVolume, 'index'> & Partial<Pick<TrackedVolume, 'index'>>;

/** Called in the middle of the tracker's work: must not throw. */
export interface TrackerHooks {
  /** Marks could be cleared, or slots freed, if upstream were flushed now. Called at most once until `flushEnded`. */
  wantsFlush(): void;
  /** The state files cannot be trusted to take marks any more; the agent should call `distrust`. Called once. */
  failed(fault: Fault): void;
}

export interface TrackerOptions {
  readonly directory: string;
  /** The directory's, where the caller has locked it (`lockState`) before: let go when the tracker is closed. */
  readonly lock?: FileLock;
  readonly group: string;
  /** Bytes per block of the fine bitmap: a power of two, 4 KiB to 1 MiB. Default 64 KiB. */
  readonly granularityBytes?: number;
  /** Slots for hot extents of 4 MiB, 16 to 16384. Default 1237. */
  readonly hotExtents?: number;
  /** `host`: marks survive a power cut. `process`: they survive a killed agent only. Default `host`. */
  readonly durability?: 'host' | 'process';
  /** Names the run of the host: marks that were not synced are not believed after another one. Null, or left out: not known. */
  readonly bootId?: string | null;
  /** In any order. All of them come with an index, or none. */
  readonly volumes: readonly WantedVolume[];
  /** A volume may be smaller than its marks say. One that has grown is taken; either way nothing found is believed. */
  readonly mayShrink?: boolean;
  /** Asked when the files found are whole: a reason why the marks in them are not to be believed all the same, or null. */
  readonly doubt?: (notes: Readonly<Record<string, string>>) => string | null;
  readonly hooks: TrackerHooks;
}

export interface Line {
  readonly id: string;
  readonly parent: { readonly id: string; readonly number: number } | null;
}

/** Who this agent is and what its cleared marks rest on; kept in STATE/identity. */
export interface Identity {
  readonly agentId: string;
  /** Rises with every opening, stored before `open` returns. */
  readonly session: number;
  readonly group: string;
  readonly line: Line;
  /** The highest number known to have been used; exact after an orderly stop, else a lower bound. */
  readonly lastNumber: number;
  /** The number on which cleared marks rest: a hub that holds less came back older. */
  readonly restsOn: number;
  /** The highest number that a hub has acknowledged as durable. */
  readonly durableNumber: number;
  /** Small facts of the agent: paused, superseded, leftSync … At most 2816 bytes of JSON in all. */
  readonly notes: Readonly<Record<string, string>>;
}

/** What the agent may change; the rest is the tracker's own. `notes` replaces all notes. */
export type IdentityPatch = Partial<Pick<Identity, 'line' | 'lastNumber' | 'restsOn' | 'durableNumber' | 'notes'>>;

/** How much the marks found at opening can be relied on. */
export type Found = 'new' | 'clean' | 'marked' | 'untrusted';

/** A byte range of a volume. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}
