/**
 * Online verification: reads a region of upstream under its range lock, takes the number that it is at, and asks the hub
 * for digests of its content at exactly that number, while the guest goes on writing.
 *
 * Always holds: what is reported as different was different at one number, and is noted and marked, durably, and told to the
 * hub before a resync touches it; what is marked already, cannot be read, or was not answered for is "could not tell", never "same";
 * a hub that answers nothing ends it.
 * Must not know: who asked, what becomes of the result.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Clock, type Logger, type Randomness, randomUuid, sleep, type Timer } from '@rephub/platform';
import { MAX_HASHED_BYTES, type VerifyReport } from '@rephub/protocol';
import { type BackgroundReads } from './background-reads.js';
import { BLOCK_BYTES } from './compare.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type HashClient } from './hash-client.js';
import { HoleFinder } from './hole-at.js';
import { type Marks } from '../mirror/marks.js';
import { type Mirror } from '../mirror/mirror.js';
import { type Pace } from './pace.js';
import { ANSWER_TIMEOUT_MS, checkRegion, NO_HUB, type Region, REGION_BYTES } from './region-check.js';
import { type Place, VerifyTally } from './verify-tally.js';

/** Regions that are looked at at once. */
const LANES = 4;
/** What was marked or not in step is looked at again, so often, after waiting for that to change. */
const ROUNDS = 3;
const SETTLE_MS = 30_000;
/** A hub that is away comes back within this time, or is not waited for. */
const HUB_AWAY_MS = 10_000;
/** What a hub that takes nothing holds already it can tell at once. */
const STALLED_ANSWER_MS = 5_000;
const POLL_MS = 200;
/** Verifications that wait for the one under way, at most. */
const MOST_WAITING = 8;
/** An outcome is there to be seen for so long, by whoever asks now and then, before the next verification takes its place. */
const SHOWN_MS = 3_000;
/** Differences logged one by one; the rest are in the sum. */
const MOST_LOGGED = 64;

export interface VerifierParts {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Logger;
  readonly volumes: readonly GuestVolume[];
  readonly tracker: Tracker;
  readonly marks: Marks;
  readonly mirror: Mirror;
  readonly hashes: HashClient;
  readonly pace: Pace;
  /** When it is read, and how much at once, is decided there. */
  readonly reads: BackgroundReads;
  /** Why the hub takes nothing at the moment; null while it does. */
  readonly stalled: () => string | null;
  /** Something differs: resolves when that is noted durably. */
  readonly found: (report: VerifyReport) => Promise<void>;
  /** The report has changed in a way that the hub must know of now. */
  readonly tell: () => void;
  /** A resync that follows is because of this. */
  readonly noteCause: (cause: string) => void;
}

/** Over all verifications of this process. */
export interface VerifyCounters {
  verifiedBytes: number;
  verifyDiffersBytes: number;
}

export class Verifier {
  readonly #parts: VerifierParts;
  #tally: VerifyTally | null = null;
  #running: Promise<void> | null = null;
  /** Asked for while one was under way. */
  readonly #next: { readonly id: string; readonly cause: string }[] = [];
  #stopped = false;
  /** Why the one under way is not gone on with. */
  #gaveUp: string | null = null;
  #timer: Timer | null = null;
  #logged = 0;
  readonly counters: VerifyCounters = { verifiedBytes: 0, verifyDiffersBytes: 0 };

  constructor(parts: VerifierParts) {
    this.#parts = parts;
  }

  /** The verification under way, or the last one; null before the first. */
  get report(): VerifyReport | null {
    return this.#tally?.report() ?? null;
  }

  /** Verifies everything so often, each time counted from the one before; null: never by itself. */
  schedule(everyMs: number | null): void {
    if (everyMs === null || this.#stopped) return;
    this.#timer = this.#parts.clock.after(everyMs, () => {
      // One that takes longer than that is not followed by all that it was late for.
      if (this.#running === null) this.start(null, 'scheduled');
      this.schedule(everyMs);
    });
  }

  /**
   * Verifies everything; when one is under way already, after that. Returns the id under which it is reported: the given one, or
   * a new one, or that of the last of many that wait.
   */
  start(givenId: string | null, cause: string): string {
    const last = this.#next.length < MOST_WAITING ? undefined : this.#next.at(-1);
    if (last !== undefined) return last.id;
    const id = givenId ?? randomUuid(this.#parts.randomness);
    if (!this.#stopped && this.#running === null) this.#begin(id, cause);
    else this.#next.push({ id, cause });
    return id;
  }

  #begin(id: string, cause: string): void {
    const { clock, log, volumes } = this.#parts;
    const sizes = new Map(volumes.map(({ name, sizeBytes }) => [name, sizeBytes]));
    const tally = new VerifyTally(id, cause, sizes, this.#time());
    this.#tally = tally;
    this.#gaveUp = null;
    this.#logged = 0;
    const begunMs = clock.monotonicMs();
    this.#running = this.#run(tally)
      .then(
        () => tally.finish(this.#time(), this.#stopped ? 'the agent has stopped' : (this.#gaveUp ?? NO_HUB)),
        (fault: unknown) => {
          log.error('verify-failed', { fault: String(fault) });
          tally.finish(this.#time(), `it failed: ${String(fault)}`);
        },
      )
      .then(async () => {
        const { bytesSame, bytesHoles = 0, bytesDiffer, bytesUnknown, reason } = tally.report();
        const level = bytesDiffer > 0 ? 'error' : bytesUnknown > 0 ? 'warn' : 'info';
        const tookMs = Math.round(clock.monotonicMs() - begunMs);
        log[level]('verify-ended', {
          cause,
          bytesSame,
          bytesHoles,
          bytesDiffer,
          bytesUnknown,
          reason: reason ?? '',
          tookMs,
        });
        this.#parts.tell();
        if (this.#next.length > 0) await sleep(clock, this.#stopped ? 0 : SHOWN_MS);
        this.#running = null;
        const next = this.#next.shift();
        if (next !== undefined && !this.#stopped) this.#begin(next.id, next.cause);
      });
  }

  /** Resolves when nothing is being read. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  async #run(tally: VerifyTally): Promise<void> {
    let regions: Iterable<Region> = this.#parts.volumes.map((volume) => ({
      volume,
      offset: 0,
      length: volume.sizeBytes,
    }));
    for (let round = 1; round <= ROUNDS && !this.#isOver; round++) {
      if (!(await this.#inStep())) return;
      const later: Region[] = [];
      for (const region of regions) await this.#verifyAll(tally, region, round === ROUNDS ? null : later);
      regions = later;
    }
  }

  get #isOver(): boolean {
    return this.#stopped || this.#gaveUp !== null;
  }

  /**
   * Waits, not for ever, until the stream is in step: what is marked until then would have to wait for another round.
   * False when there is no hub to ask.
   */
  async #inStep(): Promise<boolean> {
    const { clock, hashes, mirror, tracker } = this.#parts;
    const begunMs = clock.monotonicMs();
    const settled = (): boolean => hashes.available && mirror.state === 'streaming' && !tracker.anyDirty();
    while (!this.#stopped && !settled()) {
      const waitedMs = clock.monotonicMs() - begunMs;
      const canSettle = hashes.available && this.#parts.stalled() === null;
      if (waitedMs >= SETTLE_MS || (!canSettle && waitedMs >= HUB_AWAY_MS)) break;
      await sleep(clock, POLL_MS);
    }
    return hashes.available;
  }

  async #verifyAll(tally: VerifyTally, whole: Region, later: Region[] | null): Promise<void> {
    const cursor = { at: whole.offset };
    const holes = new HoleFinder(whole.volume.reader);
    const lane = async (): Promise<void> => {
      const { volume } = whole;
      const end = whole.offset + whole.length;
      while (cursor.at < end && !this.#isOver) {
        const offset = cursor.at;
        const partEnd = Math.min(end, offset + this.#regionBytes);
        cursor.at = partEnd;
        const hole = await holes.holeAt(offset, Math.min(end - offset, MAX_HASHED_BYTES));
        // All of a longer hole, unless another lane has gone on from where this one's part ends.
        let to = partEnd;
        if (hole >= partEnd - offset && cursor.at === partEnd) {
          to = offset + hole === end ? end : offset + hole - (hole % BLOCK_BYTES);
          cursor.at = to;
        }
        for (let at = offset; at < to;) at += await this.#verify(tally, { volume, offset: at, length: to - at }, later);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }

  get #regionBytes(): number {
    const most = Math.min(REGION_BYTES, this.#parts.reads.pieceBytes);
    return Math.max(BLOCK_BYTES, most - (most % BLOCK_BYTES));
  }

  /** Looks at a region, or its first part; resolves to the bytes of that. */
  async #verify(tally: VerifyTally, region: Region, later: Region[] | null): Promise<number> {
    const { hashes, pace, stalled } = this.#parts;
    const timeoutMs = stalled() === null ? ANSWER_TIMEOUT_MS : STALLED_ANSWER_MS;
    const checked = await checkRegion(this.#parts, region, (bytes) => pace.take(bytes), timeoutMs);
    if (typeof checked === 'string') {
      // All lanes in vain, one after the other or at once: it would be so for each region to the end.
      if (hashes.unanswered >= LANES) {
        const why = stalled();
        this.#gaveUp ??= why === null ? checked : `the hub takes nothing: ${why}`;
      }
      if (later === null) tally.unknown(region.volume.name, region.length, checked);
      else later.push(region);
      return region.length;
    }
    this.counters.verifiedBytes += checked.coveredBytes;
    const differing = tally.checked(region.volume.name, region.offset, checked);
    if (differing.length > 0) await this.#differ(tally, region.volume, differing);
    return checked.coveredBytes;
  }

  /** Noted durably, marked durably, told here and at the hub, and only then dirty for a resync. */
  async #differ(tally: VerifyTally, volume: GuestVolume, places: readonly Place[]): Promise<void> {
    const { found, log, noteCause, tell } = this.#parts;
    for (const { offset, length } of places) {
      tally.differs(volume.name, offset, length);
      this.counters.verifyDiffersBytes += length;
    }
    // Before the mark: one that an agent's death leaves behind is repaired by the next process.
    await found(tally.report());
    for (const { offset, length } of places) {
      if (this.#logged++ < MOST_LOGGED) log.error('verify-differs', { volume: volume.name, offset, length });
      await this.#repair(volume, offset, length, () => {
        tell();
        noteCause(`verify: volume ${volume.name} differs, ${length} bytes at ${offset}`);
      });
    }
  }

  /** Marked durably, then `told`, then dirty. */
  async #repair(volume: GuestVolume, offset: number, length: number, told: () => void): Promise<void> {
    const { marks, mirror, tracker } = this.#parts;
    if (!marks.begin(volume.index, offset, length)) await marks.activate(volume.index, offset, length);
    told();
    mirror.unknown(volume.index, offset, length);
    marks.end(volume.index, offset, length, tracker.takeTicket(), 0);
  }

  /** What a process before has found and perhaps not lived to mark. */
  async recall(reports: readonly VerifyReport[]): Promise<void> {
    for (const { bytesDiffer, differs } of reports) {
      this.counters.verifyDiffersBytes += bytesDiffer;
      for (const { volume: name, offset, length } of differs) {
        const volume = this.#parts.volumes.find((known) => known.name === name);
        const bytes = Math.min(length, (volume?.sizeBytes ?? 0) - offset);
        if (volume !== undefined && bytes > 0) await this.#repair(volume, offset, bytes, () => undefined);
      }
    }
  }

  #time(): string {
    return new Date(this.#parts.clock.unixMs()).toISOString();
  }
}
