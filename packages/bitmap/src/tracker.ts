/**
 * The agent's dirty tracking: marks that are durable before a write goes upstream and cleared only with
 * proof (docs/design.md, "Dirty tracking"). Wires the marks in memory to hot.log, the maps and the identity.
 *
 * Always holds:
 *  - after kill -9, and with durability `host` after a power cut, at any moment: where upstream and the hub's
 *    durable content differ is marked on the disk (SUPERSET);
 *  - once the files have failed no write is let pass by a promise that they kept, until `distrust` is durable.
 * Must not know: network, records' content, NBD.
 */
import { asError, assert, type CorruptionFault, type Platform } from '@rephub/platform';
import { SYNCED } from './boot.js';
import { checkOptions, geometryOf } from './geometry.js';
import { growVolume } from './growth.js';
import { HOT_LOG_NAME, makeHotLog } from './hot-log.js';
import { checkNotes } from './identity.js';
import { LogLoop } from './log-loop.js';
import type { Marks } from './marks.js';
import { factsOf, type OpenedState, openState } from './opening.js';
import type { ByteRange, Found, Identity, IdentityPatch, TrackerHooks, TrackerOptions } from './options.js';
import { PageWriter } from './page-writer.js';
import { lockState } from './state-lock.js';
import { Tidying } from './tidying.js';
import { Trust } from './trust.js';

export class Tracker {
  readonly found: Found;
  /** One sentence for people: why `found` is what it is. */
  readonly foundReason: string;
  /** What was wrong with the files, when `found` is `untrusted`. */
  readonly foundFaults: readonly CorruptionFault[];

  readonly #platform: Pick<Platform, 'clock' | 'files'>;
  readonly #directory: string;
  readonly #syncs: boolean;
  readonly #state: OpenedState;
  readonly #marks: Marks;
  readonly #loop: LogLoop;
  readonly #pages: PageWriter;
  readonly #trust: Trust;
  readonly #tidying: Tidying;
  #closing: Promise<void> | null = null;

  /**
   * Locks the directory, reads or makes the files, stores a new session number. Throws ConfigFault
   * `state-foreign`, `wrong-size` and for wrong options; CorruptionFault `identity-version`; StorageFault, one of
   * them `state-in-use`. Every other corruption is told by `found` = `untrusted` and `foundFaults`: all is marked then.
   */
  static async open(
    platform: Pick<Platform, 'clock' | 'files' | 'randomness'>,
    options: TrackerOptions,
  ): Promise<Tracker> {
    const checked = checkOptions(options);
    const lock = options.lock ?? (await lockState(platform.files, options.directory));
    const state = await openState(platform, options, checked, lock);
    const tracker = new Tracker(platform, options, state);
    if (state.marks.hot.slots === checked.hotExtents) return tracker;
    await tracker.#resizeLog(checked.hotExtents);
    return new Tracker(platform, options, await openState(platform, options, checked, lock));
  }

  private constructor(platform: Pick<Platform, 'clock' | 'files'>, options: TrackerOptions, state: OpenedState) {
    this.#platform = platform;
    this.#directory = options.directory;
    this.#syncs = (options.durability ?? 'host') === 'host';
    this.#state = state;
    this.#marks = state.marks;
    this.found = state.found;
    this.foundReason = state.reason;
    this.foundFaults = state.faults;
    this.#trust = this.#makeTrust(options.hooks);
    const failed = (error: Error): void => this.#trust.fail(error);
    this.#loop = new LogLoop(state.log, state.marks, {
      facts: () => factsOf(state.identity.stored, state.marks),
      short: (coolable, isStarving) => this.#tidying.makeRoom(coolable, isStarving),
      failed,
    });
    this.#pages = new PageWriter(state.marks, this.#loop, state.maps, {
      restsOn: () => state.marks.durableNumber,
      prepared: () => {
        if (this.#loop.waiting > 0) this.#loop.kick();
      },
      failed,
    });
    this.#tidying = new Tidying({
      clock: platform.clock,
      marks: state.marks,
      slots: state.marks.hot.slots,
      pages: this.#pages,
      isKept: () => this.#trust.isKept,
      wantsFlush: () => options.hooks.wantsFlush(),
    });
    this.#marks.onStale = () => this.#tidying.schedule();
  }

  #makeTrust(hooks: TrackerHooks): Trust {
    return new Trust({
      files: this.#platform.files,
      directory: this.#directory,
      identity: this.#state.identity,
      marks: this.#marks,
      stop: (fault) => {
        this.#tidying.stop();
        this.#pages.stop(fault);
        this.#loop.stop(fault);
      },
      letPass: () => this.#loop.release(),
      failed: (fault) => hooks.failed(fault),
    });
  }

  /** Volumes that this directory has known, and that are not listed now. */
  get awayNames(): readonly string[] {
    return this.#state.away;
  }

  /** The number that this volume has in every call, and in records. */
  indexOf(name: string): number {
    const volume = this.#state.volumes.find((tracked) => tracked.name === name);
    assert(volume !== undefined, `volume ${name} is tracked`);
    return volume.index;
  }

  get identity(): Identity {
    const { agentId, session, group, line, restsOn, notes } = this.#state.identity.stored;
    const { lastNumber, durableNumber } = this.#marks;
    return {
      agentId,
      session,
      group,
      line,
      lastNumber,
      restsOn: Math.max(restsOn, durableNumber),
      durableNumber,
      notes,
    };
  }

  /**
   * Stores what the agent wants kept; durable when it resolves. With a new `line` the numbers given are taken as
   * they are; else they only rise. Throws ConfigFault `identity-too-big`, StorageFault.
   */
  async saveIdentity(patch: IdentityPatch): Promise<void> {
    const marks = this.#marks;
    const notes = patch.notes ?? this.#state.identity.stored.notes;
    checkNotes(notes, this.#state.identity.stored.notes);
    const durable = patch.durableNumber ?? patch.restsOn;
    if (patch.line !== undefined)
      marks.setNumbers(durable ?? marks.durableNumber, patch.lastNumber ?? marks.lastNumber);
    else if (patch.lastNumber !== undefined) marks.noteLastNumber(patch.lastNumber);
    const { line, lastNumber, durableNumber, restsOn } = { ...this.identity, ...patch };
    await this.#state.identity.save({
      line,
      notes,
      durableNumber,
      lastNumber,
      restsOn: patch.line === undefined ? restsOn : (patch.restsOn ?? durableNumber),
    });
    // A crash from here on must not read numbers of the old line from hot.log.
    if (patch.line !== undefined && this.#trust.isKept) await this.#loop.commit();
  }

  // ---- writes

  /** Hot path: true when every extent of the range is hot; their in-flight counts are raised. Otherwise nothing changed. */
  begin(volume: number, offset: number, length: number): boolean {
    return this.#marks.begin(volume, offset, length);
  }

  /**
   * Resolves when the range is hot, durably, and counted as in flight. Rejects with the fault once marks cannot be
   * made durable: the write must wait then until `distrust` has resolved (and be begun again).
   */
  async activate(volume: number, offset: number, length: number): Promise<void> {
    if (this.#marks.isDistrusted || this.begin(volume, offset, length)) return;
    if (this.#trust.failure !== null) throw this.#trust.failure;
    if (!this.#marks.isLarge(offset, length)) {
      await this.#loop.activate(volume, offset, length);
      return;
    }
    this.#marks.hold(volume, offset, length);
    try {
      await this.#pages.writeAdded();
    } catch (thrown) {
      this.#unlessDistrusted(asError(thrown));
    }
  }

  /** The write that `begin` or `activate` let pass is over. `number` 0: no record was made, `setDirty` has been called. */
  end(volume: number, offset: number, length: number, ticket: number, number: number): void {
    this.#marks.end(volume, offset, length, ticket, number);
  }

  /** A rising counter; taken when an upstream write has completed. */
  takeTicket(): number {
    return this.#marks.takeTicket();
  }

  /** Needs to be copied: fine bits, in memory; durable because the range is hot, held or marked already. */
  setDirty(volume: number, offset: number, length: number): void {
    this.#marks.setDirty(volume, offset, length);
  }

  // ---- copying

  /** The next run of set bits from the block of `from` on, at most 1 GiB at once, clipped to the volume's size. */
  nextDirty(volume: number, from: number): ByteRange | null {
    return this.#marks.nextDirty(volume, from);
  }

  /** Clears the bits and adds a pending run; returns its id. Offset and end must lie on blocks (or the volume's end). */
  take(volume: number, offset: number, length: number): number {
    return this.#marks.take(volume, offset, length);
  }

  /** The copy got a record, or rests on what the hub holds at `number`. `ticket`: the highest given when upstream was read. */
  numbered(id: number, number: number, ticket: number): void {
    this.#marks.numbered(id, number, ticket);
    // What rests on a number that is durable already waits for a flush alone, and no acknowledgement will remind of it.
    if (number <= this.#marks.durableNumber) this.#tidying.schedule();
  }

  /** The copy came to nothing: its blocks are dirty again. */
  putBack(id: number): void {
    this.#marks.putBack(id);
  }

  /**
   * Records above this number are lost and will not be sent again: what they carried is dirty, copies (those
   * without a number too) and guest writes alike. What is proven stays so; of a hub that came back older: `markAll`.
   */
  putBackAbove(number: number): void {
    this.#marks.putBackAbove(number);
  }

  // ---- proof

  hubDurable(number: number): void {
    this.#marks.hubDurable(number);
    if (this.#marks.pending.count > 0) this.#tidying.schedule();
    if (this.#loop.waiting > 0) this.#loop.kick();
  }

  /** A flush of the volume has completed that was submitted after `ticket` had been given. */
  upstreamFlushed(volume: number, ticket: number): void {
    this.#marks.upstreamFlushed(volume, ticket);
    this.#tidying.flushed();
    if (this.#loop.waiting > 0) this.#loop.kick();
  }

  /** What was asked for is over, whatever came of it: the next one may be asked for. */
  flushEnded(): void {
    this.#tidying.flushed();
  }

  // ---- figures

  get dirtyBytes(): number {
    return this.#marks.dirtyBytes;
  }

  get pendingBytes(): number {
    return this.#marks.pendingBytes;
  }

  /** Extents that a crash now would mark. */
  get hotExtents(): number {
    return this.#marks.hot.used;
  }

  hasMarks(): boolean {
    return this.#marks.hasMarks();
  }

  anyDirty(volume?: number): boolean {
    return this.#marks.anyDirty(volume);
  }

  /** Dirty, pending and hot, merged, in order: what a crash now would resync. */
  runs(volume: number): Iterable<ByteRange> {
    return this.#marks.runs(volume);
  }

  // ---- the rare

  /** Every block of every volume. Bits are set at once; nothing may be sent to the hub before it resolves: then they are durable. */
  async markAll(): Promise<void> {
    this.#marks.markAll();
    if (this.#marks.isDistrusted) return;
    if (this.#trust.failure !== null) throw this.#trust.failure;
    await this.#pages.writeAdded();
  }

  /**
   * The volume has so many bytes now, more than before: what is new is marked, durably, and counts from the turn in which
   * `admitted` is called. Rejects when that cannot be (ConfigFault `wrong-size`, `granularity-too-fine`; StorageFault); then
   * nothing has changed.
   */
  async grow(index: number, sizeBytes: number, admitted: () => void): Promise<void> {
    const { geometry } = this.#marks.volume(index);
    const larger = geometryOf({ ...geometry, sizeBytes }, geometry.granularityBytes);
    assert(sizeBytes > geometry.sizeBytes, 'a volume that grows becomes larger');
    if (this.#marks.isDistrusted) {
      this.#marks.volume(index).grow(larger);
      admitted();
      return;
    }
    if (this.#trust.failure !== null) throw this.#trust.failure;
    const parts = {
      files: this.#platform.files,
      directory: this.#directory,
      agentId: this.#state.identity.stored.agentId,
      syncs: this.#syncs,
      marks: this.#marks,
      maps: this.#state.maps,
      failed: (error: Error) => this.#trust.fail(error),
    };
    await this.#pages.alone(() => growVolume(parts, larger, admitted));
  }

  /**
   * Untrusted, durably: the next start compares everything. From then on every write passes. Throws a StorageFault
   * when even that cannot be stored; may be tried again.
   */
  distrust(reason: string): Promise<void> {
    return this.#trust.distrust(reason);
  }

  /** Makes every idle extent cold, what it leaves behind durable, and writes what was cleared; resolves to how many stay hot. */
  async coolIdle(): Promise<number> {
    if (!this.#trust.isKept) return this.hotExtents;
    this.#tidying.askIfNeeded();
    await this.#pages.prepareAll();
    await this.#loop.eraseCoolable();
    await this.#pages.writeStale();
    return this.hotExtents;
  }

  /**
   * All writes have ended. Writes all marks and stores that the stop was in order, with the last number; true when
   * no mark is left. Releases the directory in any case. A disk that fails meanwhile: untrusted, false, or a
   * StorageFault when not even that can be stored.
   */
  async closeClean(lastNumber: number): Promise<boolean> {
    this.#marks.noteLastNumber(lastNumber);
    let isClean = false;
    try {
      if (this.#trust.isKept) {
        await this.coolIdle();
        await this.#loop.commit();
        isClean = !this.hasMarks();
        // What is left in order is to be believed by a host that was started anew.
        if (!this.#syncs) {
          for (const map of this.#state.maps.values()) await map.syncAlways();
          await this.#state.log.sync();
        }
        const { durableNumber, restsOn } = this.identity;
        const { lastNumber } = this.#marks;
        await this.#state.identity.save({ lastNumber, durableNumber, restsOn, clean: isClean, kept: SYNCED });
      }
    } catch (thrown) {
      isClean = false;
      await this.distrust(`state could not be stored at the end: ${asError(thrown).message}`);
    } finally {
      await this.close();
    }
    return isClean;
  }

  /** Leaves everything as a crash would. Releases the directory. */
  close(): Promise<void> {
    return (this.#closing ??= this.#closeFiles().finally(() => this.#state.lock.release()));
  }

  async #closeFiles(): Promise<void> {
    this.#trust.close();
    await this.#loop.settled();
    await this.#pages.settled();
    const { identity, log, maps } = this.#state;
    const outcomes = await Promise.allSettled([identity, log, ...maps.values()].map((file) => file.close()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw asError(outcome.reason);
  }

  /** Another number of slots: everything is cooled, the log made anew, the files closed; the directory stays locked. */
  async #resizeLog(slots: number): Promise<void> {
    try {
      await this.coolIdle();
      if (this.#trust.failure !== null) throw this.#trust.failure;
      await makeHotLog(
        this.#platform.files,
        `${this.#directory}/${HOT_LOG_NAME}`,
        slots,
        factsOf(this.#state.identity.stored, this.#marks),
      );
      if (this.found === 'clean') await this.#state.identity.save({ clean: true });
      await this.#closeFiles();
    } catch (thrown) {
      await this.close();
      throw thrown;
    }
  }

  #unlessDistrusted(error: Error): void {
    if (!this.#marks.isDistrusted) throw error;
  }
}
