/**
 * The agent's dirty tracking: marks that are durable before a write goes upstream and cleared only with proof.
 */
import type { CorruptionFault, Platform } from '@rephub/platform';
import type { ByteRange, Found, Identity, IdentityPatch, TrackerOptions } from './options.js';

export abstract class Tracker {
  /** Locks the directory, reads or makes the files, stores a new session number. Throws ConfigFault `state-in-use`, `state-foreign`, `wrong-size`. */
  static open(_platform: Pick<Platform, 'clock' | 'files' | 'randomness'>, _options: TrackerOptions): Promise<Tracker> {
    return Promise.reject(new Error('not yet built'));
  }

  abstract readonly found: Found;
  /** One sentence for people: why `found` is what it is. */
  abstract readonly foundReason: string;
  /** What was wrong with the files found, when `found` is `untrusted`. */
  abstract readonly foundFaults: readonly CorruptionFault[];
  abstract readonly identity: Identity;
  abstract saveIdentity(patch: IdentityPatch): Promise<void>;

  /** Hot path: true when every extent of the range is hot; their in-flight counts are raised. Otherwise nothing changed. */
  abstract begin(volume: number, offset: number, length: number): boolean;
  /** Resolves when the range is hot durably and counted as in flight. Rejects with the fault when marks cannot be made durable. */
  abstract activate(volume: number, offset: number, length: number): Promise<void>;
  /** The write that `begin` or `activate` let pass is over. `number` 0: no record was made, `setDirty` has been called. */
  abstract end(volume: number, offset: number, length: number, ticket: number, number: number): void;
  /** A rising counter; taken when an upstream write has completed. */
  abstract takeTicket(): number;
  /** Needs to be copied: fine bits, in memory; durable because the range is hot or marked already. */
  abstract setDirty(volume: number, offset: number, length: number): void;

  /** The next run of set bits at or after `from`, at most 1 GiB at once, clipped to the volume's size. */
  abstract nextDirty(volume: number, from: number): ByteRange | null;
  /** Clears the bits and adds a pending run; returns its id. Offset and end must lie on blocks (or the volume's end). */
  abstract take(volume: number, offset: number, length: number): number;
  /** The copy got a record. `ticket`: the highest given when upstream was read. */
  abstract numbered(id: number, number: number, ticket: number): void;
  abstract putBack(id: number): void;
  /** Pending runs with a higher number, or without one, are dirty again. */
  abstract putBackAbove(number: number): void;

  abstract hubDurable(number: number): void;
  /** A flush submitted after `ticket` was given has completed. */
  abstract upstreamFlushed(ticket: number): void;

  abstract readonly dirtyBytes: number;
  abstract readonly pendingBytes: number;
  abstract readonly hotExtents: number;
  abstract hasMarks(): boolean;
  abstract anyDirty(volume?: number): boolean;
  /** Dirty, pending and hot, merged, in order: what a crash now would resync. */
  abstract runs(volume: number): Iterable<ByteRange>;

  /** Every block of every volume. Bits are set at once; send nothing to the hub before it resolves (then it is durable). */
  abstract markAll(): Promise<void>;
  /** Untrusted, durably; then every write passes. Throws a StorageFault when even that cannot be stored. */
  abstract distrust(reason: string): Promise<void>;
  /** Cools every extent that can be cooled now, and writes what was cleared; resolves to how many stay hot. */
  abstract coolIdle(): Promise<number>;
  /** All writes have ended. True when no mark is left. Releases the directory. */
  abstract closeClean(lastNumber: number): Promise<boolean>;
  /** As a crash would leave it. Releases the directory. */
  abstract close(): Promise<void>;
}
