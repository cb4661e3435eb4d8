/**
 * What must be marked, kept by plain sets: the oracle for crash tests of the tracker. It knows writes, copies
 * and proof, block by block, and nothing of extents, pages or files.
 */
export interface VolumeShape {
  readonly index: number;
  readonly sizeBytes: number;
}

export interface ModelCopy {
  number: number;
  ticket: number;
}

/** One reason for which a block may differ between upstream and the hub. */
interface Reason {
  readonly volume: number;
  inFlight: boolean;
  /** 0: no record carries it, it must be copied. */
  number: number;
  ticket: number;
  copy: ModelCopy | null;
}

export interface ModelWrite {
  readonly reason: Reason;
}

export class Model {
  readonly granularityBytes: number;
  readonly #blocks = new Map<number, Reason[][]>();
  /** Blocks that a crash may find marked although nothing differs there any more, since the last tidying. */
  readonly #allowed = new Map<number, Uint8Array>();
  readonly #volumes: readonly VolumeShape[];
  #durable = 0;
  /** By volume. */
  readonly #flushed = new Map<number, number>();

  constructor(volumes: readonly VolumeShape[], granularityBytes: number) {
    this.granularityBytes = granularityBytes;
    this.#volumes = volumes;
    for (const { index, sizeBytes } of volumes) {
      const blocks = Math.ceil(sizeBytes / granularityBytes);
      this.#blocks.set(
        index,
        Array.from({ length: blocks }, () => []),
      );
      this.#allowed.set(index, new Uint8Array(blocks));
    }
  }

  /** Upstream may hold the write from now on. */
  begin(volume: number, offset: number, length: number): ModelWrite {
    const reason: Reason = { volume, inFlight: true, number: 0, ticket: 0, copy: null };
    for (const reasons of this.#range(volume, offset, length)) reasons.push(reason);
    return { reason };
  }

  end(write: ModelWrite, ticket: number, number: number): void {
    write.reason.inFlight = false;
    write.reason.number = number;
    write.reason.ticket = ticket;
  }

  take(volume: number, offset: number, length: number): ModelCopy {
    const copy: ModelCopy = { number: 0, ticket: 0 };
    for (const reasons of this.#range(volume, offset, length)) {
      for (const reason of reasons) if (!reason.inFlight && reason.number === 0) reason.copy ??= copy;
    }
    return copy;
  }

  putBack(copy: ModelCopy): void {
    this.#eachReason((reason) => {
      if (reason.copy === copy) reason.copy = null;
    });
  }

  putBackAbove(number: number): void {
    this.#eachReason((reason) => {
      if (this.#isProven(reason)) return;
      if (reason.copy !== null && (reason.copy.number === 0 || reason.copy.number > number)) reason.copy = null;
      if (reason.number > number) reason.number = 0;
    });
  }

  markAll(): void {
    this.#eachReason((reason) => {
      if (reason.copy?.number === 0) reason.copy = null;
    });
    for (const { index, sizeBytes } of this.#volumes) this.end(this.begin(index, 0, sizeBytes), 0, 0);
  }

  hubDurable(number: number): void {
    this.#durable = Math.max(this.#durable, number);
  }

  upstreamFlushed(volume: number, ticket: number): void {
    this.#flushed.set(volume, Math.max(this.#flushed.get(volume) ?? 0, ticket));
  }

  /** A crash may find this range marked from now on. */
  allow(volume: number, offset: number, length: number): void {
    const first = Math.floor(offset / this.granularityBytes);
    const end = Math.ceil((offset + length) / this.granularityBytes);
    this.#allowed.get(volume)?.fill(1, first, end);
  }

  /** Nothing but what is allowed again after this may be found. */
  allowNothing(): void {
    for (const allowed of this.#allowed.values()) allowed.fill(0);
  }

  /** A new process: tickets begin again, what was in flight has an unknown fate. Blocks without reason are forgotten. */
  restart(): void {
    this.#eachReason((reason) => {
      if (this.#isProven(reason)) {
        reason.copy = { number: 1, ticket: 0 };
        return;
      }
      // A new process copies it all: it knows no record and no copy of the one before.
      reason.inFlight = false;
      reason.number = 0;
      reason.copy = null;
    });
    this.#flushed.clear();
  }

  /** The first block that breaks a promise when a crash finds these marks, or null. */
  judge(found: ReadonlyMap<number, Uint8Array>, restsOn: number): string | null {
    for (const [volume, blocks] of this.#blocks) {
      const marks = found.get(volume);
      const allowed = this.#allowed.get(volume);
      for (const [block, reasons] of blocks.entries()) {
        const isMarked = marks?.[block] === 1;
        const open = reasons.find((reason) => !this.#isProven(reason));
        if (open !== undefined && !isMarked)
          return `SUPERSET: block ${block} of volume ${volume}: ${JSON.stringify(open)}`;
        if (open === undefined && isMarked && allowed?.[block] !== 1)
          return `NOFULL: block ${block} of volume ${volume}`;
        if (isMarked) continue;
        const rests = Math.max(0, ...reasons.map((reason) => reason.copy?.number ?? reason.number));
        if (rests > restsOn) return `CLEAR: block ${block} rests on ${rests}, stored is ${restsOn}`;
      }
    }
    return null;
  }

  #isProven({ volume, inFlight, number, ticket, copy }: Reason): boolean {
    if (inFlight) return false;
    const proof = copy ?? { number, ticket };
    return proof.number > 0 && proof.number <= this.#durable && proof.ticket <= (this.#flushed.get(volume) ?? 0);
  }

  #range(volume: number, offset: number, length: number): Reason[][] {
    const first = Math.floor(offset / this.granularityBytes);
    const end = Math.ceil((offset + length) / this.granularityBytes);
    return this.#blocks.get(volume)?.slice(first, end) ?? [];
  }

  #eachReason(change: (reason: Reason) => void): void {
    const seen = new Set<Reason>();
    for (const blocks of this.#blocks.values())
      for (const reasons of blocks) for (const reason of reasons) seen.add(reason);
    for (const reason of seen) change(reason);
  }
}
