/** What a line's store is made of, and whom it tells. */
import type { BlockCodec, Fault, Logger, Platform } from '@rephub/platform';
import type { Line } from '@rephub/protocol';
import type { RetentionLimits } from './applier/retention.js';
import type { Room } from './room.js';
import type { StoreMemory } from './store-types.js';

export interface LineStoreEvents {
  readonly progressed: () => void;
  readonly congested: (now: boolean) => void;
  /** What the journal waits for to pass; null: it goes on. */
  readonly waits: (fault: Fault | null) => void;
  readonly failed: (fault: Fault) => void;
}

export interface LineStoreOptions {
  readonly platform: Pick<Platform, 'clock' | 'files'>;
  /** For compressed records; those of another codec are refused. */
  readonly codecs: readonly BlockCodec[];
  /** GROUP/lines/LINE and GROUP/base */
  readonly directory: string;
  readonly baseDirectory: string;
  readonly group: string;
  readonly hubId: string;
  readonly line: Line;
  /** Volumes that were seeded. */
  readonly seeded: ReadonlySet<string>;
  readonly limits: RetentionLimits;
  /** More than what the disk says of it, maybe. */
  readonly knownDurable: number;
  /** As in GroupStoreOptions. */
  readonly isQuiet: () => boolean;
  readonly isGivenUp: () => boolean;
  readonly segmentBytes: number;
  readonly queueBytes: number;
  readonly memory: StoreMemory;
  readonly room: Room;
  readonly log: Logger;
  readonly events: LineStoreEvents;
}
