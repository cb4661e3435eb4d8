/**
 * What a judged writer has written, and what a disk may therefore hold.
 *
 * A disk is blocks of 4 KiB. Each write has a number of its own, and each block that it writes says which block and which
 * write it is and ends with a checksum; a zeroing leaves zeroes. `submit` and `acknowledge` are counted on one clock of
 * events, so the order in which the guest could have seen things is known: of two writes, one came first if it was
 * acknowledged before the other was submitted.
 *
 * Always holds: one write at a time in a block (the writer keeps that), so a block's writes have an order; a write that was
 * never acknowledged may have happened or not.
 * Must not know: NBD, processes, files.
 */
import { crc32 } from 'node:zlib';

export const BLOCK_BYTES = 4096;
const MAGIC = 0x544f5254;
const ZEROES = Buffer.alloc(BLOCK_BYTES);

export interface Write {
  /** From 1 on; the disk's content before all writes, zeroes, is number 0. */
  readonly number: number;
  readonly kind: 'data' | 'zero';
  readonly firstBlock: number;
  readonly blocks: number;
  /** On the clock of events. */
  readonly submittedAt: number;
  /** Infinity while it was not. */
  acknowledgedAt: number;
}

const BEFORE_ALL: Write = { number: 0, kind: 'zero', firstBlock: 0, blocks: 0, submittedAt: 0, acknowledgedAt: 0 };

type Shown = { readonly zero: true } | { readonly number: number } | { readonly wrong: string };

export class Ledger {
  readonly blocks: number;
  readonly #seed: number;
  readonly #history: Write[][];
  readonly #writes: Write[] = [BEFORE_ALL];
  #now = 0;
  /** Writes acknowledged before this are covered by a flush that succeeded. */
  #flushedBefore = 0;

  constructor(blocks: number, seed: number) {
    this.blocks = blocks;
    this.#seed = seed;
    this.#history = Array.from({ length: blocks }, () => [BEFORE_ALL]);
  }

  get acknowledged(): number {
    return this.#writes.reduce((sum, write) => sum + (write.acknowledgedAt === Infinity ? 0 : 1), -1);
  }

  submit(kind: Write['kind'], firstBlock: number, blocks: number): Write {
    this.#now += 1;
    const number = this.#writes.length;
    const write: Write = { number, kind, firstBlock, blocks, submittedAt: this.#now, acknowledgedAt: Infinity };
    this.#writes.push(write);
    for (let block = firstBlock; block < firstBlock + blocks; block += 1) this.#history[block]?.push(write);
    return write;
  }

  acknowledge(write: Write): void {
    this.#now += 1;
    write.acknowledgedAt = this.#now;
  }

  /** Call when a flush is submitted; give the result to `flushed` when it has succeeded. */
  flushing(): number {
    this.#now += 1;
    return this.#now;
  }

  flushed(submittedAt: number): void {
    this.#flushedBefore = Math.max(this.#flushedBefore, submittedAt);
  }

  /** What a write puts into its blocks. */
  content(write: Write): Buffer {
    const bytes = Buffer.alloc(write.blocks * BLOCK_BYTES);
    for (let index = 0; index < write.blocks; index += 1) {
      const block = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
      block.fill((write.number * 31 + index) & 0xff);
      block.writeUInt32LE(MAGIC, 0);
      block.writeUInt32LE(this.#seed >>> 0, 4);
      block.writeUInt32LE(write.firstBlock + index, 8);
      block.writeUInt32LE(write.number, 12);
      block.writeUInt32LE(crc32(block.subarray(0, BLOCK_BYTES - 4)), BLOCK_BYTES - 4);
    }
    return bytes;
  }

  /**
   * What is wrong with a block of the disk itself, as it is now; null when it holds its last acknowledged write, or a later one
   * whose fate is not known.
   */
  judgeNow(block: number, bytes: Buffer): string | null {
    const shown = this.#read(block, bytes);
    if ('wrong' in shown) return shown.wrong;
    const history = this.#history[block] ?? [];
    for (let at = history.length - 1; at >= 0; at -= 1) {
      const write = history[at] ?? BEFORE_ALL;
      if (shows(shown, write)) return null;
      if (write.acknowledgedAt === Infinity) continue;
      const flushed = write.acknowledgedAt < this.#flushedBefore ? 'acknowledged and flushed' : 'acknowledged';
      return `block ${block} shows ${text(shown)}, but write ${write.number} was ${flushed}`;
    }
    return `block ${block} shows ${text(shown)}, which it never held`;
  }

  /**
   * What is wrong with a point of the replica (promise ORD): if write B is visible, so is every write that was acknowledged
   * before B was submitted. `disk` holds all blocks.
   */
  judgePoint(disk: Buffer): readonly string[] {
    if (disk.length !== this.blocks * BLOCK_BYTES) return [`the point has ${disk.length} bytes`];
    const faults: string[] = [];
    const newestShown: number[] = [];
    let cause = BEFORE_ALL;
    for (let block = 0; block < this.blocks; block += 1) {
      const shown = this.#read(block, disk.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES));
      const history = this.#history[block] ?? [];
      if ('wrong' in shown) {
        faults.push(shown.wrong);
        newestShown.push(history.length);
        continue;
      }
      // Zeroes do not say whose they are: the oldest that it can be obliges least, the newest satisfies most.
      const oldest = history.find((write) => shows(shown, write));
      if (oldest === undefined) faults.push(`block ${block} shows ${text(shown)}, which it never held`);
      else if (oldest.submittedAt > cause.submittedAt) cause = oldest;
      newestShown.push(history.findLastIndex((write) => shows(shown, write)));
    }
    for (let block = 0; block < this.blocks; block += 1) {
      const missed = (this.#history[block] ?? []).findLastIndex((write) => write.acknowledgedAt < cause.submittedAt);
      if (missed <= (newestShown[block] ?? 0)) continue;
      const write = this.#history[block]?.[missed] ?? BEFORE_ALL;
      faults.push(
        `block ${block} lacks write ${write.number}, acknowledged before write ${cause.number} was submitted, which is visible`,
      );
    }
    return faults;
  }

  #read(block: number, bytes: Buffer): Shown {
    if (bytes.equals(ZEROES)) return { zero: true };
    if (bytes.readUInt32LE(0) !== MAGIC || bytes.readUInt32LE(4) !== this.#seed >>> 0)
      return { wrong: `block ${block} holds bytes that nobody wrote` };
    if (crc32(bytes.subarray(0, BLOCK_BYTES - 4)) !== bytes.readUInt32LE(BLOCK_BYTES - 4))
      return { wrong: `block ${block} is torn or garbled` };
    if (bytes.readUInt32LE(8) !== block)
      return { wrong: `block ${block} holds the content of block ${bytes.readUInt32LE(8)}` };
    return { number: bytes.readUInt32LE(12) };
  }
}

function shows(shown: Exclude<Shown, { readonly wrong: string }>, write: Write): boolean {
  return 'zero' in shown ? write.kind === 'zero' : write.kind === 'data' && write.number === shown.number;
}

function text(shown: Exclude<Shown, { readonly wrong: string }>): string {
  return 'zero' in shown ? 'zeroes' : `write ${shown.number}`;
}
