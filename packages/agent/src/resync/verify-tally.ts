/** The result of a verification as it grows: what is the same, what differs and where, what could not be told and why. Pure. */
import { type VerifyReport, type VolumeVerify } from '@rephub/protocol';
import { type CheckedRegion } from './region-check.js';

/** Places named in the report; what lies beyond is counted. */
const MOST_NAMED = 64;

export interface Place {
  readonly offset: number;
  readonly length: number;
}

type Figures = { -readonly [Key in keyof VolumeVerify]: VolumeVerify[Key] };

export class VerifyTally {
  readonly id: string;
  readonly cause: string;
  readonly #startedAt: string;
  /** In the order in which they were given. */
  readonly #volumes: ReadonlyMap<string, Figures>;
  readonly #differs: { readonly volume: string; readonly offset: number; length: number }[] = [];
  #bytesHoles = 0;
  #reason: string | null = null;
  #finishedAt: string | null = null;

  /** `bytes`: what is to be looked at, by volume. */
  constructor(id: string, cause: string, bytes: ReadonlyMap<string, number>, startedAt: string) {
    this.id = id;
    this.cause = cause;
    this.#startedAt = startedAt;
    const none = { bytesSame: 0, bytesDiffer: 0, bytesUnknown: 0, reason: null };
    this.#volumes = new Map([...bytes].map(([name, bytesTotal]) => [name, { name, bytesTotal, ...none }]));
  }

  /** `isHole`: nothing was read for it. */
  same(volume: string, bytes: number, isHole: boolean): void {
    this.#of(volume).bytesSame += bytes;
    if (isHole) this.#bytesHoles += bytes;
  }

  /** Of a region that begins at `offset`; returns the places that differ, which are not counted yet: `differs` is for that. */
  checked(volume: string, offset: number, { coveredBytes, isHole, runs }: CheckedRegion): Place[] {
    const differing: Place[] = [];
    for (const { from, to, verdict } of runs) {
      const bytes = Math.min(to, coveredBytes) - from;
      if (bytes <= 0) break;
      if (verdict === 'same') this.same(volume, bytes, isHole);
      else if (verdict === 'unknown') this.unknown(volume, bytes, 'the hub cannot read it');
      else differing.push({ offset: offset + from, length: bytes });
    }
    return differing;
  }

  differs(volume: string, offset: number, length: number): void {
    this.#of(volume).bytesDiffer += length;
    const before = this.#differs.find((known) => known.volume === volume && known.offset + known.length === offset);
    if (before !== undefined) before.length += length;
    else if (this.#differs.length < MOST_NAMED) this.#differs.push({ volume, offset, length });
  }

  unknown(volume: string, bytes: number, reason: string): void {
    const figures = this.#of(volume);
    figures.bytesUnknown += bytes;
    figures.reason ??= reason;
    this.#reason ??= reason;
  }

  /** What was not come to counts as unknown. */
  finish(at: string, reason: string): void {
    for (const { name, bytesTotal, bytesSame, bytesDiffer, bytesUnknown } of this.#volumes.values()) {
      const rest = bytesTotal - bytesSame - bytesDiffer - bytesUnknown;
      if (rest > 0) this.unknown(name, rest, reason);
    }
    this.#finishedAt = at;
  }

  report(): VerifyReport {
    const volumes = [...this.#volumes.values()].map((figures) => ({ ...figures }));
    const sum = (key: 'bytesTotal' | 'bytesSame' | 'bytesDiffer' | 'bytesUnknown'): number =>
      volumes.reduce((total, figures) => total + figures[key], 0);
    return {
      id: this.id,
      cause: this.cause,
      startedAt: this.#startedAt,
      finishedAt: this.#finishedAt,
      bytesTotal: sum('bytesTotal'),
      bytesSame: sum('bytesSame'),
      bytesHoles: this.#bytesHoles,
      bytesDiffer: sum('bytesDiffer'),
      bytesUnknown: sum('bytesUnknown'),
      differs: this.#differs.map((place) => ({ ...place })),
      reason: this.#reason,
      volumes,
    };
  }

  #of(volume: string): Figures {
    const found = this.#volumes.get(volume);
    if (found === undefined) throw new Error(`volume ${volume} is not of this verification`);
    return found;
  }
}
