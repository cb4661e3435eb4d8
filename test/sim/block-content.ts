/**
 * Blocks that can be judged: every sector of every 4 KiB block that the workload writes carries its operation, writer, epoch,
 * address and a checksum, so that whatever a disk shows can be told to be a given write, zeroes, a mixture of
 * writes (torn), or rubbish.
 *
 * Always holds: equal content has equal ids. An id is 0 for zeroes, an operation's number for a block that is wholly its own,
 * and negative for all else.
 */
import { crc32 } from 'node:zlib';

export const BLOCK_BYTES = 4096;
export const SECTOR_BYTES = 512;
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;
const WORDS = SECTOR_BYTES / 4;
const MAGIC = 0x5245_5048;
/** What no sector of an operation has for its number. */
const RUBBISH = -1;
/** A block that the replica must not show at all: upstream could not read it. */
export const UNREADABLE = -0x4000_0000;

const ZEROES = Buffer.alloc(BLOCK_BYTES);

/** Who wrote a block, and where it belongs. */
export interface Stamp {
  readonly operation: number;
  readonly writer: number;
  readonly epoch: number;
  readonly volume: number;
  readonly block: number;
}

export class BlockContents {
  readonly #words = new Int32Array(BLOCK_BYTES / 4);
  readonly #bytes = Buffer.from(this.#words.buffer);
  readonly #mixed: number[][] = [];
  readonly #ids = new Map<string, number>();
  readonly #settled = new WeakMap<
    Uint8Array,
    { readonly volume: number; readonly block: number; readonly id: number }
  >();

  /** Writes one block's bytes at `at`. */
  fill(target: Buffer, at: number, stamp: Stamp): void {
    this.#make(stamp);
    this.#bytes.copy(target, at);
  }

  /** The id of the block at `at`, as found at that address of that volume. */
  identify(bytes: Buffer, at: number, volume: number, block: number): number {
    const first = bytes.readUInt32LE(at);
    if (first === 0 && bytes.compare(ZEROES, 0, BLOCK_BYTES, at, at + BLOCK_BYTES) === 0) return 0;
    if (first === MAGIC) {
      const operation = bytes.readInt32LE(at + 4);
      this.#make({
        operation,
        volume,
        block,
        writer: bytes.readInt32LE(at + 16),
        epoch: bytes.readInt32LE(at + 20),
      });
      if (bytes.compare(this.#bytes, 0, BLOCK_BYTES, at, at + BLOCK_BYTES) === 0) return operation;
    }
    const sectors: number[] = [];
    for (let sector = 0; sector < SECTORS; sector += 1) sectors.push(this.#sector(bytes, at, sector, volume, block));
    return this.#mixedId(sectors);
  }

  /** The same of a page that is one block, and remembered where it is settled: looked at once, however often it is shown. */
  identifyPage(page: Uint8Array, isSettled: boolean, volume: number, block: number): number {
    const known = isSettled ? this.#settled.get(page) : undefined;
    if (known?.volume === volume && known.block === block) return known.id;
    const id = this.identify(Buffer.from(page.buffer, page.byteOffset, page.length), 0, volume, block);
    if (isSettled) this.#settled.set(page, { volume, block, id });
    return id;
  }

  /** The same for one sector: an operation's number, 0 for zeroes, negative for rubbish. */
  sectorOf(content: number, sector: number): number {
    return content >= 0 ? content : (this.#mixed[-content - 1]?.[sector] ?? RUBBISH);
  }

  isMixed(content: number): boolean {
    return content < 0 && content !== UNREADABLE;
  }

  describe(content: number): string {
    if (content === 0) return 'zeroes';
    if (content === UNREADABLE) return 'unreadable';
    if (content > 0) return `write ${content}`;
    return `mixture [${(this.#mixed[-content - 1] ?? []).map((sector) => (sector < 0 ? 'rubbish' : sector)).join(' ')}]`;
  }

  #mixedId(sectors: number[]): number {
    const key = sectors.join();
    let id = this.#ids.get(key);
    if (id === undefined) {
      this.#mixed.push(sectors);
      id = -this.#mixed.length;
      this.#ids.set(key, id);
    }
    return id;
  }

  #sector(bytes: Buffer, blockAt: number, sector: number, volume: number, block: number): number {
    const at = blockAt + sector * SECTOR_BYTES;
    const end = at + SECTOR_BYTES;
    if (bytes.compare(ZEROES, 0, SECTOR_BYTES, at, end) === 0) return 0;
    if (bytes.readUInt32LE(at) === MAGIC) {
      const operation = bytes.readInt32LE(at + 4);
      const [writer, epoch] = [bytes.readInt32LE(at + 16), bytes.readInt32LE(at + 20)];
      this.#make({ operation, volume, block, writer, epoch });
      const from = sector * SECTOR_BYTES;
      if (bytes.compare(this.#bytes, from, from + SECTOR_BYTES, at, end) === 0) return operation;
    }
    return -2 - crc32(bytes.subarray(at, end));
  }

  #make({ operation, writer, epoch, volume, block }: Stamp): void {
    const words = this.#words;
    let check = Math.imul(operation ^ 0x9e37_79b9, 0x85eb_ca6b) ^ Math.imul(block + 1, 0xc2b2_ae35);
    check = Math.imul(check ^ (check >>> 15) ^ (volume << 20) ^ (writer << 8) ^ epoch, 0x27d4_eb2f);
    words.fill(check);
    for (let sector = 0; sector < SECTORS; sector += 1) {
      const at = sector * WORDS;
      words[at] = MAGIC;
      words[at + 1] = operation;
      words[at + 2] = (volume << 16) | sector;
      words[at + 3] = block;
      words[at + 4] = writer;
      words[at + 5] = epoch;
    }
  }
}
