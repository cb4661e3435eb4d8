/**
 * How long guests' requests take, for each volume and kind of request: alone, and beside background reads. From the guest's
 * submission to upstream's answer: waiting in a range lock counts, since a copy may hold it; waiting for the hub does not, since
 * no copy would make it shorter. Pure: told of moments, and who reads tells when nothing is being read.
 *
 * Always holds: a request belongs to "alone" or to "beside" by when it was submitted and never by how long it took, or the
 * long ones would all be found beside something.
 * Must not know: what is done about it.
 */
import { type BlockRequest, Command, CommandFlag } from '@rephub/nbd';
import { LatencyHistogram } from './latency-histogram.js';

export type LatencyKind = 'read' | 'write' | 'flush';

/** Of one kind of request. */
export interface KindLatency {
  readonly kind: LatencyKind;
  readonly alone: LatencyHistogram;
  /** Since what is read beside them has last become less. */
  readonly beside: LatencyHistogram;
  /** The same over a longer time, to be told. */
  readonly besideLately: LatencyHistogram;
}

/** So many count at most; of twice as many the older ones count half. */
const MOST_COUNTED = 4096;
/** Once nothing was read for so long, whatever that left in queues is gone, and nobody is about to go on. */
export const ALONE_AFTER_MS = 1_000;

export class VolumeLatency {
  readonly name: string;
  readonly kinds: readonly KindLatency[];
  /** Requests that upstream has not answered. */
  inFlight = 0;
  /** When it answered the last one, or got the first of those in flight. */
  progressMs = -Infinity;
  readonly #group: GuestLatency;
  readonly #read = kindLatency('read');
  readonly #write = kindLatency('write');
  /** Writes with FUA are among them. */
  readonly #flush = kindLatency('flush');

  constructor(group: GuestLatency, name: string) {
    this.#group = group;
    this.name = name;
    this.kinds = [this.#read, this.#write, this.#flush];
  }

  /** Upstream gets a guest's request that was submitted then. */
  began(submittedMs: number): void {
    if (this.inFlight++ === 0) this.progressMs = submittedMs;
    this.#group.began(submittedMs);
  }

  /** Upstream has answered it. `isTelling`: the disk did it, at once and without an error. */
  ended(request: BlockRequest, submittedMs: number, nowMs: number, isTelling: boolean): void {
    this.inFlight--;
    this.progressMs = nowMs;
    this.#group.ended(nowMs);
    if (isTelling) this.#note(this.#kindOf(request), submittedMs, nowMs - submittedMs);
  }

  #note({ alone, beside, besideLately }: KindLatency, submittedMs: number, tookMs: number): void {
    if (this.#group.isAlone(submittedMs)) {
      noteIn(alone, tookMs);
    } else if (submittedMs >= this.#group.besideFromMs) {
      noteIn(beside, tookMs);
      noteIn(besideLately, tookMs);
    }
  }

  #kindOf({ command, flags }: BlockRequest): KindLatency {
    if (command === Command.Flush || (flags & CommandFlag.Fua) !== 0) return this.#flush;
    return command === Command.Read || command === Command.Cache ? this.#read : this.#write;
  }
}

/** Of all volumes of a group. */
export class GuestLatency {
  readonly volumes: VolumeLatency[] = [];
  /** Of requests that are not alone those submitted from then on count. */
  besideFromMs = -Infinity;
  /** The last time in which nothing was read for long enough, or in which that was seen to. */
  #aloneFromMs = Infinity;
  #aloneToMs = -Infinity;
  /** Infinity: something is being read. */
  #nothingReadSinceMs = -Infinity;
  #inFlight = 0;
  #lastMs = -Infinity;

  addVolume(name: string): VolumeLatency {
    const volume = new VolumeLatency(this, name);
    this.volumes.push(volume);
    return volume;
  }

  began(submittedMs: number): void {
    this.#inFlight++;
    this.#lastMs = Math.max(this.#lastMs, submittedMs);
  }

  ended(nowMs: number): void {
    this.#inFlight--;
    this.#lastMs = nowMs;
  }

  readBegins(nowMs: number): void {
    const fromMs = this.#nothingReadSinceMs + ALONE_AFTER_MS;
    this.#nothingReadSinceMs = Infinity;
    if (fromMs < nowMs) this.setAlone(fromMs, nowMs);
    // Where that was to be seen to for longer.
    this.#aloneToMs = Math.min(this.#aloneToMs, nowMs);
  }

  nothingIsRead(nowMs: number): void {
    this.#nothingReadSinceMs = nowMs;
  }

  /** Requests submitted in this time are alone: it is seen to that nothing is read. */
  setAlone(fromMs: number, toMs: number): void {
    this.#aloneFromMs = fromMs;
    this.#aloneToMs = toMs;
  }

  isAlone(submittedMs: number): boolean {
    if (submittedMs >= this.#nothingReadSinceMs + ALONE_AFTER_MS) return true;
    return submittedMs >= this.#aloneFromMs && submittedMs < this.#aloneToMs;
  }

  /** No guest has asked for anything for so long, and nobody waits. */
  isIdle(nowMs: number, forMs: number): boolean {
    return this.#inFlight === 0 && nowMs - this.#lastMs >= forMs;
  }
}

function kindLatency(kind: LatencyKind): KindLatency {
  return {
    kind,
    alone: new LatencyHistogram(),
    beside: new LatencyHistogram(),
    besideLately: new LatencyHistogram(),
  };
}

function noteIn(histogram: LatencyHistogram, tookMs: number): void {
  if (histogram.total >= 2 * MOST_COUNTED) histogram.fade(MOST_COUNTED);
  histogram.note(tookMs);
}
