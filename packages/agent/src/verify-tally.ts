/** The result of a verification as it grows: what is the same, what differs and where, what could not be told and why. Pure. */
import { type VerifyReport } from '@rephub/protocol';

/** Places named in the report; what lies beyond is counted. */
const MOST_NAMED = 64;

export class VerifyTally {
  readonly id: string;
  readonly cause: string;
  readonly bytesTotal: number;
  readonly #startedAt: string;
  readonly #differs: { readonly volume: string; readonly offset: number; length: number }[] = [];
  #bytesSame = 0;
  #bytesHoles = 0;
  #bytesDiffer = 0;
  #bytesUnknown = 0;
  #reason: string | null = null;
  #finishedAt: string | null = null;

  constructor(id: string, cause: string, bytesTotal: number, startedAt: string) {
    this.id = id;
    this.cause = cause;
    this.bytesTotal = bytesTotal;
    this.#startedAt = startedAt;
  }

  get isFinished(): boolean {
    return this.#finishedAt !== null;
  }

  /** `isHole`: nothing was read for it. */
  same(bytes: number, isHole: boolean): void {
    this.#bytesSame += bytes;
    if (isHole) this.#bytesHoles += bytes;
  }

  differs(volume: string, offset: number, length: number): void {
    this.#bytesDiffer += length;
    const before = this.#differs.find((known) => known.volume === volume && known.offset + known.length === offset);
    if (before !== undefined) before.length += length;
    else if (this.#differs.length < MOST_NAMED) this.#differs.push({ volume, offset, length });
  }

  unknown(bytes: number, reason: string): void {
    this.#bytesUnknown += bytes;
    this.#reason ??= reason;
  }

  /** What was not come to counts as unknown. */
  finish(at: string, reason: string): void {
    const rest = this.bytesTotal - this.#bytesSame - this.#bytesDiffer - this.#bytesUnknown;
    if (rest > 0) this.unknown(rest, reason);
    this.#finishedAt = at;
  }

  report(): VerifyReport {
    return {
      id: this.id,
      cause: this.cause,
      startedAt: this.#startedAt,
      finishedAt: this.#finishedAt,
      bytesTotal: this.bytesTotal,
      bytesSame: this.#bytesSame,
      bytesHoles: this.#bytesHoles,
      bytesDiffer: this.#bytesDiffer,
      bytesUnknown: this.#bytesUnknown,
      differs: this.#differs.map((place) => ({ ...place })),
      reason: this.#reason,
    };
  }
}
