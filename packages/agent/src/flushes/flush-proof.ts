/**
 * Which completed writes are on stable storage upstream, volume by volume: one that cannot flush keeps nothing of another's.
 * Each completed write takes a ticket from one rising counter; a flush of a volume covers the tickets given to that volume
 * before the flush was submitted (promise CLEAR).
 */
/** Volumes have numbers below this. */
const MOST_VOLUMES = 256;

export class FlushProof {
  /** By the volumes' numbers, which need not be without gaps. */
  readonly #lastTicket = new Float64Array(MOST_VOLUMES);
  readonly #flushedTicket = new Float64Array(MOST_VOLUMES);
  readonly #copiedTicket = new Float64Array(MOST_VOLUMES);

  /** A write to this volume has completed with this ticket. */
  written(volume: number, ticket: number): void {
    this.#lastTicket[volume] = ticket;
  }

  /** Something of this volume was read to be copied: it counts as written, for what was read may not be flushed yet. */
  copied(volume: number, ticket: number): void {
    this.#copiedTicket[volume] = ticket;
    this.written(volume, ticket);
  }

  /** No flush has covered the newest copy: what it read may have been gone, or not yet there again. */
  hasUnflushedCopy(volume: number): boolean {
    return (this.#copiedTicket[volume] ?? 0) > (this.#flushedTicket[volume] ?? 0);
  }

  /** What a flush submitted now will cover of this volume. */
  coveredBy(volume: number): number {
    return this.#lastTicket[volume] ?? 0;
  }

  /** A flush has completed that covers this volume's tickets up to `covered`. */
  flushed(volume: number, covered: number): void {
    if (covered > (this.#flushedTicket[volume] ?? 0)) this.#flushedTicket[volume] = covered;
  }

  hasUnflushed(volume: number): boolean {
    return (this.#lastTicket[volume] ?? 0) > (this.#flushedTicket[volume] ?? 0);
  }
}
