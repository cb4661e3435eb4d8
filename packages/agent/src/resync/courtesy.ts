/**
 * How much may be read in the background while guests are at work, by what they notice of it: the idea of LEDBAT (RFC 6817),
 * background transport that gives way as soon as the delay of others rises. Pure: told of reads and moments, asked what may begin.
 *
 * No guest at work: everything. Else a *level*: above 1 so many pieces at once, below 1 one piece at a time for that share of the
 * time. It rises slowly while requests take less than twice as long as alone, by mean and 99th percentile, of each kind on each
 * volume; it is halved when any take longer, or do not come back. How long they take alone is known from before, and
 * from short *looks*: nothing is read for a moment, now and then.
 *
 * Always holds: a resync ends, however slow the guest is: a rest is at most 15 times as long as the piece before it took and at
 * most REST_MS, and looks take an eighth of the time at most.
 * Must not know: what is read, why.
 */
import {
  ALONE_AFTER_MS,
  type GuestLatency,
  type KindLatency,
  type LatencyKind,
  type VolumeLatency,
} from '../guest/guest-latency.js';

export const PIECE_BYTES = 256 * 1024;
/** What one piece may be while nobody yields. */
export const MOST_PIECE_BYTES = 1024 * 1024;
/** A guest that has asked for nothing for so long is idle. */
export const IDLE_MS = 250;
export const REST_MS = 200;
const LEAST_LEVEL = 1 / 16;
const FIRST_LEVEL = 1 / 2;
/** As much as when the guest is idle. */
export const FULL_LEVEL = 8;
const LESS = 1 / 2;
const MORE = 1.2;
/** So often is judged; with too few requests to judge by later, but not later than after PATIENCE_MS. */
const JUDGE_MS = 200;
const PATIENCE_MS = 1_000;
/** A little less than twice: what was too much shows only afterwards. */
const MOST_TIMES = 1.75;
const TAIL = 0.01;
/** Nobody notices less; to take in a piece keeps our own loop nearly as long. */
const UNNOTICED_MS = 0.5;
/** Requests without which nothing is judged. */
const FEW = 8;
/** Requests by which it is known how long they take alone. */
const ENOUGH = 32;
/** What earlier looks have shown counts for so many requests at most. */
const ALONE_COUNTED = 256;
const LOOK_MS = 250;
const LOOK_EVERY_MS = 10_000;
const LOOK_SOON_MS = 2_000;
/** A rest shorter than this is owed until there is more of it: timers are no finer. */
const LEAST_REST_MS = 2;
/** So often is asked again whether somebody may read: guests may have become idle. */
const ASK_MS = 10;

/** Of requests of one kind on one volume, as far as there were any. */
export interface LatencyStatus {
  readonly volume: string;
  readonly kind: LatencyKind;
  /** 99 of 100 took no longer while nothing was read in the background; null: not known. */
  readonly aloneP99Ms: number | null;
  /** The same while something was, this time or the last. */
  readonly besideP99Ms: number | null;
}

export interface CourtesyStatus {
  /** A guest is at work: what is read in the background gives way as far as it notices. */
  readonly yielding: boolean;
  /** 1: as with no guest at all; less: so much of that may be under way at once, or of the time. */
  readonly speed: number;
  readonly latency: readonly LatencyStatus[];
}

export class Courtesy {
  readonly #guests: GuestLatency;
  #level = FIRST_LEVEL;
  #reads = 0;
  #readBytes = 0;
  #readMs = -Infinity;
  #owedMs = 0;
  #restUntilMs = -Infinity;
  #judgedMs = -Infinity;
  #nextLookMs = -Infinity;
  /** NaN: no look is taken. Infinity: it begins when what is being read has been read. */
  #lookUntilMs = NaN;
  #wasIdle = true;

  constructor(guests: GuestLatency) {
    this.#guests = guests;
  }

  isYielding(nowMs: number): boolean {
    return !this.#guests.isIdle(nowMs, IDLE_MS);
  }

  status(nowMs: number): CourtesyStatus {
    const yielding = this.isYielding(nowMs);
    const latency = this.#guests.volumes.flatMap(({ name, kinds }) =>
      kinds
        .map(({ kind, alone, besideLately }) => ({
          volume: name,
          kind,
          aloneP99Ms: alone.total < FEW ? null : alone.quantile(1 - TAIL),
          besideP99Ms: besideLately.total < FEW ? null : besideLately.quantile(1 - TAIL),
        }))
        .filter(({ aloneP99Ms, besideP99Ms }) => aloneP99Ms !== null || besideP99Ms !== null),
    );
    return { yielding, speed: yielding ? this.#level / FULL_LEVEL : 1, latency };
  }

  /** How large the next piece may be. */
  pieceBytes(nowMs: number): number {
    if (!this.isYielding(nowMs)) return MOST_PIECE_BYTES;
    return Math.max(PIECE_BYTES, Math.floor((this.#level * PIECE_BYTES) / 2));
  }

  /** May so many bytes be read now? To be asked again when a read has ended, and every few milliseconds. */
  admits(nowMs: number, bytes: number): boolean {
    if (this.#reads === 0 && nowMs - this.#readMs >= ALONE_AFTER_MS) this.#beginAnew(nowMs);
    if (!this.isYielding(nowMs)) {
      this.#wasIdle = true;
      this.#endLook(nowMs);
      return true;
    }
    if (this.#wasIdle) this.#guestsWake(nowMs);
    this.#judge(nowMs);
    if (this.#isLooking(nowMs) || nowMs < this.#restUntilMs) return false;
    if (this.#reads === 0) return true;
    if (this.#level <= 1) return false;
    return this.#reads < 2 * this.#level && this.#readBytes + bytes <= this.#level * PIECE_BYTES;
  }

  /** How soon it is worth asking again when nothing ends. */
  askAgainInMs(nowMs: number): number {
    return nowMs < this.#restUntilMs ? Math.min(ASK_MS, this.#restUntilMs - nowMs) : ASK_MS;
  }

  began(nowMs: number, bytes: number): void {
    if (this.#reads === 0) this.#guests.readBegins(nowMs);
    this.#reads++;
    this.#readBytes += bytes;
  }

  /** A read that took so long is over. */
  ended(nowMs: number, bytes: number, tookMs: number): void {
    this.#reads--;
    this.#readBytes -= bytes;
    this.#readMs = nowMs;
    if (this.#reads === 0) this.#guests.nothingIsRead(nowMs);
    if (this.#level >= 1 || !this.isYielding(nowMs)) return;
    this.#owedMs = Math.min(REST_MS, this.#owedMs + tookMs * (1 / this.#level - 1));
    if (this.#owedMs < LEAST_REST_MS) return;
    this.#restUntilMs = nowMs + this.#owedMs;
    this.#owedMs = 0;
  }

  #beginAnew(nowMs: number): void {
    this.#level = FIRST_LEVEL;
    this.#owedMs = 0;
    this.#restUntilMs = -Infinity;
    this.#readMs = nowMs;
    this.#lookUntilMs = NaN;
    this.#wasIdle = true;
    for (const { kinds } of this.#guests.volumes) for (const { besideLately } of kinds) besideLately.clear();
    const isKnown = this.#guests.volumes.some(({ kinds }) => kinds.some(({ alone }) => alone.total >= ENOUGH));
    this.#nextLookMs = isKnown ? nowMs + LOOK_EVERY_MS : nowMs;
  }

  /** What they have asked for already met all that was read while they were idle: that says nothing of the level. */
  #guestsWake(nowMs: number): void {
    this.#wasIdle = false;
    this.#judgedMs = nowMs;
    this.#forgetBeside(nowMs);
  }

  // How guests fare ----------------------------------------------------------------------------

  #judge(nowMs: number): void {
    const sinceMs = nowMs - this.#judgedMs;
    if (sinceMs < JUDGE_MS) return;
    let isKnown = false;
    let isSlow = false;
    for (const volume of this.#guests.volumes) {
      if (isStuck(volume, nowMs)) isSlow = true;
      for (const kind of volume.kinds) {
        if (kind.beside.total < FEW || kind.alone.total < FEW) continue;
        isKnown = true;
        if (isSlowed(kind)) isSlow = true;
      }
    }
    if (!isSlow && !isKnown && sinceMs < PATIENCE_MS) return;
    this.#judgedMs = nowMs;
    if (isSlow) {
      this.#level = Math.max(LEAST_LEVEL, this.#level * LESS);
      // What is under way still was begun beside more.
      this.#forgetBeside(nowMs);
      return;
    }
    // With nothing to judge by it is as at first.
    const most = isKnown ? FULL_LEVEL : Math.max(FIRST_LEVEL, this.#level);
    this.#level = Math.min(most, this.#level * MORE);
    for (const { kinds } of this.#guests.volumes) {
      for (const { beside } of kinds) beside.fade(beside.total / 2);
    }
  }

  #forgetBeside(nowMs: number): void {
    this.#guests.besideFromMs = nowMs;
    for (const { kinds } of this.#guests.volumes) for (const { beside } of kinds) beside.clear();
  }

  // How they fare alone ------------------------------------------------------------------------

  /** True: nothing may be read, so that it can be seen how long guests' requests take alone. */
  #isLooking(nowMs: number): boolean {
    if (Number.isNaN(this.#lookUntilMs)) {
      if (nowMs < this.#nextLookMs) return false;
      this.#lookUntilMs = Infinity;
    }
    if (this.#lookUntilMs === Infinity) {
      if (this.#reads > 0) return true;
      this.#lookUntilMs = nowMs + LOOK_MS;
      // What was queued has to drain, and what is submitted near the end will be answered beside what is read then.
      this.#guests.setAlone(nowMs + LOOK_MS / 5, nowMs + (LOOK_MS * 4) / 5);
      for (const { kinds } of this.#guests.volumes) for (const { alone } of kinds) alone.fade(ALONE_COUNTED);
    }
    if (nowMs < this.#lookUntilMs) return true;
    this.#endLook(nowMs);
    return false;
  }

  #endLook(nowMs: number): void {
    if (Number.isNaN(this.#lookUntilMs)) return;
    this.#lookUntilMs = NaN;
    // Of what is met beside reads one would know how it is alone.
    const isKnown = this.#guests.volumes.every(({ kinds }) =>
      kinds.every(({ alone, besideLately }) => besideLately.total < FEW || alone.total >= ENOUGH),
    );
    this.#nextLookMs = nowMs + (isKnown ? LOOK_EVERY_MS : LOOK_SOON_MS);
  }
}

/** What takes longer than that, where it takes so long alone, is too slow. */
function limitOf(aloneMs: number): number {
  return Math.max(MOST_TIMES * aloneMs, aloneMs + UNNOTICED_MS);
}

function isSlowed({ alone, beside }: KindLatency): boolean {
  const tailMs = limitOf(alone.quantile(1 - TAIL));
  // One of few is chance.
  if (beside.above(tailMs) > 1 + TAIL * beside.total) return true;
  return beside.mean(tailMs) > limitOf(alone.mean(tailMs));
}

/** Nothing has come back for longer than anything takes alone. */
function isStuck({ inFlight, kinds, progressMs }: VolumeLatency, nowMs: number): boolean {
  if (inFlight === 0) return false;
  let longestMs = 0;
  for (const { alone } of kinds) {
    if (alone.total >= FEW) longestMs = Math.max(longestMs, alone.quantile(1 - TAIL));
  }
  return longestMs > 0 && nowMs - progressMs > limitOf(longestMs);
}
