/**
 * Every record that the agent has put on the wire, as a chain, and the replica that it makes: an independent fold, against
 * which what the hub serves is compared byte for byte (through block ids).
 *
 * Always holds: a fold follows the chain of header checksums back from the record that the hub names, so records that no
 * hub took are not in it.
 */
import { pureLz4 } from '@rephub/platform/sim';
import { FrameFlag, type FrameHeader, FrameType, rawPayload } from '@rephub/protocol';
import { BLOCK_BYTES, type BlockContents, UNREADABLE } from './block-content.js';

export interface WireRecord {
  readonly number: number;
  readonly checksum: number;
  readonly previous: number;
  readonly type: FrameType;
  readonly copied: boolean;
  readonly volume: number;
  readonly block: number;
  readonly blocks: number;
  /** Of a write: one id for each block. */
  readonly contents: Int32Array | null;
}

interface Fold {
  readonly number: number;
  readonly checksum: number;
  readonly volumes: Int32Array[];
}

export class WireRecords {
  readonly #contents: BlockContents;
  readonly #blocksOf: readonly number[];
  readonly #records = new Map<number, WireRecord[]>();
  readonly #byChecksum = new Map<number, WireRecord[]>();
  #newest: Fold | null = null;
  /** What images held that were found with parts of records which are lost; null: it cannot be known. By the checksum of the last record that is not. */
  readonly #found = new Map<number, { readonly number: number; readonly volumes: Int32Array[] | null }>();

  constructor(contents: BlockContents, blocksOf: readonly number[]) {
    this.#contents = contents;
    this.#blocksOf = blocksOf;
  }

  /** Takes a record that goes out; null when it went out before. */
  add(header: FrameHeader, raw: readonly Buffer[]): WireRecord | null {
    const same = this.#records.get(header.number);
    if (same?.some(({ checksum }) => checksum === header.headerChecksum) === true) return null;
    const block = Math.floor(header.offset / BLOCK_BYTES);
    const hasRange =
      header.type === FrameType.Write ||
      header.type === FrameType.Zero ||
      header.type === FrameType.Discard ||
      header.type === FrameType.Unreadable;
    const blocks = hasRange ? header.length / BLOCK_BYTES : 0;
    if (hasRange && !(Number.isInteger(blocks) && block * BLOCK_BYTES === header.offset)) {
      throw new Error(`record ${header.number} covers ${header.length} bytes at ${header.offset}: no whole blocks`);
    }
    const record: WireRecord = {
      number: header.number,
      checksum: header.headerChecksum,
      previous: header.previousChecksum,
      type: header.type,
      copied: (header.flags & FrameFlag.Copied) !== 0,
      volume: header.volume,
      block,
      blocks,
      contents: header.type === FrameType.Write ? this.#identify(header, raw, block) : null,
    };
    this.#byChecksum.set(record.checksum, [...(this.#byChecksum.get(record.checksum) ?? []), record]);
    if (same === undefined) this.#records.set(header.number, [record]);
    else same.push(record);
    return record;
  }

  /** Other records that have had the same number. */
  namesakes(record: WireRecord): readonly WireRecord[] {
    return (this.#records.get(record.number) ?? []).filter((other) => other !== record);
  }

  find(number: number, checksum: number): WireRecord | null {
    return this.#records.get(number)?.find((record) => record.checksum === checksum) ?? null;
  }

  /** The chain that ends with this record, newest first; down to and without `until`. Null when that record was never seen. */
  chain(number: number, checksum: number, until: number | null = null): WireRecord[] | null {
    const chain: WireRecord[] = [];
    let record = this.find(number, checksum);
    if (record === null && number > 0) return null;
    while (record !== null && record.checksum !== until) {
      chain.push(record);
      record = this.#before(record);
    }
    return chain;
  }

  #before(record: WireRecord): WireRecord | null {
    // Only a span's begin skips numbers. Among so many records two may have the same checksum: the number tells them apart.
    const next = this.find(record.number - 1, record.previous);
    if (next !== null) return next;
    const older = (this.#byChecksum.get(record.previous) ?? []).filter(({ number }) => number < record.number);
    return older.reduce<WireRecord | null>((a, b) => (a === null || b.number > a.number ? b : a), null);
  }

  /** What a replica shows at `number` of the line that ends with (lastNumber, lastChecksum); null when it cannot be known. */
  foldAt(number: number, lastNumber: number, lastChecksum: number): Int32Array[] | null {
    let record = this.find(lastNumber, lastChecksum);
    if (record === null && lastNumber > 0) return null;
    if (number === 0) return this.#empty();
    while (record !== null && record.number > number) record = this.#before(record);
    return record === null ? null : this.#foldTo(record);
  }

  /**
   * The records after this one are lost to the hub, but its images may hold parts of them, and what comes next lies over
   * that: `images` is what they hold, with everything up to record `applied`. Tells a block that no lost record explains.
   */
  lostAfter(
    number: number,
    checksum: number,
    applied: number,
    images: readonly (Int32Array | null)[],
  ): { readonly volume: number; readonly block: number } | null {
    const kept = this.foldAt(number, number, checksum);
    const chain = this.chain(number, checksum);
    if (kept === null || chain === null) return null;
    const lost = this.#empty();
    for (const [later, records] of this.#records) {
      if (later <= number) continue;
      for (const { volume, block, blocks } of records) lost[volume]?.fill(1, block, block + blocks);
    }
    // What is above them is in the journal.
    for (const { number: above, volume, block, blocks } of chain) {
      if (above > applied) lost[volume]?.fill(2, block, block + blocks);
    }
    let isKnown = true;
    for (const [volume, blocks] of kept.entries()) {
      const image = images[volume] ?? null;
      if (image === null) continue;
      for (let block = 0; block < blocks.length; block += 1) {
        const held = image[block] ?? 0;
        if (held === blocks[block] || lost[volume]?.[block] === 2) continue;
        // Which ranges the images lack is in another file.
        if (blocks[block] === UNREADABLE) isKnown &&= lost[volume]?.[block] !== 1;
        else if (lost[volume]?.[block] !== 1) return { volume, block };
        else blocks[block] = held;
      }
    }
    this.#newest = null;
    this.#found.set(checksum, { number, volumes: isKnown ? kept : null });
    return null;
  }

  /** Is a span open at that number of the chain? */
  spanOpenAt(number: number, lastNumber: number, lastChecksum: number): boolean {
    for (let record = this.find(lastNumber, lastChecksum); record !== null; record = this.#before(record)) {
      if (record.number > number) continue;
      if (record.type === FrameType.SpanEnd) return false;
      if (record.type === FrameType.SpanBegin) return true;
    }
    return true;
  }

  #foldTo(record: WireRecord): Int32Array[] | null {
    const cached = this.#newest;
    const usable = cached !== null && cached.number <= record.number ? cached : null;
    let chain = this.chain(record.number, record.checksum, usable?.checksum ?? null) ?? [];
    const oldest = chain.at(-1);
    const reaches = usable !== null && (oldest === undefined ? usable.checksum : oldest.previous) === usable.checksum;
    if (!reaches && usable !== null) chain = this.chain(record.number, record.checksum) ?? [];
    const foundAt = this.#found.size === 0 ? -1 : chain.findIndex((one) => this.#foundAt(one) !== undefined);
    const found = foundAt < 0 ? undefined : this.#foundAt(chain[foundAt]);
    if (found?.volumes === null) return null;
    const below = found?.volumes ?? (reaches ? usable.volumes : null);
    const volumes = below === null ? this.#empty() : below.map((blocks) => blocks.slice());
    if (foundAt >= 0) chain = chain.slice(0, foundAt);
    for (let at = chain.length - 1; at >= 0; at -= 1) {
      const next = chain[at];
      if (next !== undefined) apply(volumes, next);
    }
    if (cached === null || record.number >= cached.number || !reaches) {
      this.#newest = { number: record.number, checksum: record.checksum, volumes };
    }
    return volumes;
  }

  #foundAt(record: WireRecord | undefined): { readonly volumes: Int32Array[] | null } | undefined {
    const found = record === undefined ? undefined : this.#found.get(record.checksum);
    return found?.number === record?.number ? found : undefined;
  }

  #empty(): Int32Array[] {
    return this.#blocksOf.map((count) => new Int32Array(count));
  }

  #identify(header: FrameHeader, raw: readonly Buffer[], block: number): Int32Array {
    const bytes = rawPayload(header, raw, [pureLz4]);
    const contents = new Int32Array(bytes.length / BLOCK_BYTES);
    for (let at = 0; at < contents.length; at += 1) {
      contents[at] = this.#contents.identify(bytes, at * BLOCK_BYTES, header.volume, block + at);
    }
    return contents;
  }
}

function apply(volumes: readonly Int32Array[], record: WireRecord): void {
  const blocks = volumes[record.volume];
  if (blocks === undefined || record.blocks === 0) return;
  if (record.contents !== null) blocks.set(record.contents, record.block);
  else blocks.fill(record.type === FrameType.Unreadable ? UNREADABLE : 0, record.block, record.block + record.blocks);
}
