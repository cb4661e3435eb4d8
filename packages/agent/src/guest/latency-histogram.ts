/**
 * How long requests took, as counts in buckets: eight to each doubling, from a microsecond up, so that what is told of one is
 * at most an eighth too much. Pure; to note one allocates nothing.
 */
const SUB_BITS = 3;
const SUBS = 1 << SUB_BITS;
const MOST_US = 2 ** 31 - 1;
const BUCKETS = bucketOf(MOST_US) + 1;

export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #total = 0;

  /** How many there are; a fraction once older ones count less. */
  get total(): number {
    return this.#total;
  }

  note(tookMs: number): void {
    const bucket = bucketOf(Math.min(MOST_US, Math.max(0, Math.trunc(tookMs * 1000))));
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#total++;
  }

  /** Milliseconds that this share of all, or a little more, did not exceed; 0 when there are none. */
  quantile(share: number): number {
    let left = this.#total * share;
    let upperMs = 0;
    for (const [bucket, count] of this.#counts.entries()) {
      if (count === 0) continue;
      upperMs = lowerUs(bucket + 1) / 1000;
      left -= count;
      if (left <= 0) break;
    }
    return upperMs;
  }

  /** How many took longer, as far as buckets can tell. */
  above(limitMs: number): number {
    let count = 0;
    for (let bucket = bucketOf(Math.min(MOST_US, Math.trunc(limitMs * 1000))) + 1; bucket < BUCKETS; bucket++) {
      count += this.#counts[bucket] ?? 0;
    }
    return count;
  }

  /** The mean, where what took longer than `mostMs` counts as that: a few outliers do not make it. */
  mean(mostMs: number): number {
    if (this.#total === 0) return 0;
    let sum = 0;
    for (const [bucket, count] of this.#counts.entries()) {
      if (count > 0) sum += count * Math.min(mostMs, (lowerUs(bucket) + lowerUs(bucket + 1)) / 2000);
    }
    return sum / this.#total;
  }

  /** What there is counts for `most` at most, so that what comes counts more. */
  fade(most: number): void {
    if (this.#total <= most) return;
    const share = most / this.#total;
    for (const [bucket, count] of this.#counts.entries()) this.#counts[bucket] = count * share;
    this.#total = most;
  }

  clear(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }
}

function bucketOf(us: number): number {
  if (us < SUBS) return us;
  const exponent = 31 - Math.clz32(us);
  return ((exponent - SUB_BITS + 1) << SUB_BITS) + ((us >>> (exponent - SUB_BITS)) & (SUBS - 1));
}

/** The first microsecond that belongs to the bucket. */
function lowerUs(bucket: number): number {
  if (bucket < SUBS) return bucket;
  return (SUBS + (bucket & (SUBS - 1))) * 2 ** ((bucket >> SUB_BITS) - 1);
}
