/**
 * hot.log on the disk: appends one transaction at a time. Owns the table as the disk has it.
 *
 * Always holds: when `append` resolves its transaction is durable; only one is under way at a time; the room
 * was taken when the file was made.
 * Must not know: why an extent is hot.
 */
import { assert, type FileSystem, type OpenFile, replaceFile } from '@rephub/platform';
import { NO_EXTENT } from './geometry.js';
import { CELL_BYTES, RING_CELLS, sliceStartOf } from './ring.js';
import { encodeTransaction, type PageRun, SLICE_SLOTS, TRANSACTION_BYTES } from './transaction.js';

export const HOT_LOG_NAME = 'hot.log';

/** What every transaction says besides its changes. */
export interface LogFacts {
  readonly agentId: string;
  readonly lineId: string;
  readonly restsOn: number;
  readonly durableNumber: number;
  readonly lastNumber: number;
}

export class HotLog {
  readonly #file: OpenFile;
  readonly #syncs: boolean;
  readonly #table: Uint32Array;
  readonly #cell = Buffer.alloc(CELL_BYTES);
  #sequence: number;
  #isBusy = false;

  /** `table` and `sequence` as recovered: the next transaction has the number after it. */
  constructor(file: OpenFile, syncs: boolean, table: Uint32Array, sequence: number) {
    this.#file = file;
    this.#syncs = syncs;
    this.#table = table;
    this.#sequence = sequence;
  }

  /** The key that the newest transaction has for the slot. */
  keyOf(slot: number): number {
    return this.#table[slot] ?? NO_EXTENT;
  }

  /** Writes the next transaction. `changes`: slot and key, alternating. Throws StorageFault; the log is done for then. */
  async append(changes: readonly number[], announced: readonly PageRun[], facts: LogFacts): Promise<void> {
    assert(!this.#isBusy, 'one transaction is under way at a time');
    this.#isBusy = true;
    this.#sequence += 1;
    for (let index = 0; index < changes.length; index += 2) {
      this.#table[changes[index] ?? 0] = changes[index + 1] ?? NO_EXTENT;
    }
    encodeCell(this.#cell, this.#sequence, this.#table, changes, announced, facts);
    await this.#file.write([this.#cell], (this.#sequence % RING_CELLS) * CELL_BYTES);
    if (this.#syncs) await this.#file.sync();
    this.#isBusy = false;
  }

  /** Durable from now on, also where it is not synced each time. */
  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Makes a hot.log of `slots` free slots, durably, in place of what has its name. */
export async function makeHotLog(
  files: FileSystem,
  path: string,
  slots: number,
  facts: LogFacts,
): Promise<{ readonly table: Uint32Array; readonly sequence: number }> {
  const table = new Uint32Array(slots).fill(NO_EXTENT);
  const ring = Buffer.alloc(RING_CELLS * CELL_BYTES);
  for (let sequence = 1; sequence <= RING_CELLS; sequence += 1) {
    const start = (sequence % RING_CELLS) * CELL_BYTES;
    encodeCell(ring.subarray(start, start + CELL_BYTES), sequence, table, [], [], facts);
  }
  await replaceFile(files, path, async (file) => {
    await file.write([ring], 0);
  });
  return { table, sequence: RING_CELLS };
}

function encodeCell(
  cell: Buffer,
  sequence: number,
  table: Uint32Array,
  changes: readonly number[],
  announced: readonly PageRun[],
  facts: LogFacts,
): void {
  const slots = table.length;
  const sliceStart = sliceStartOf(sequence, slots);
  encodeTransaction(cell.subarray(0, TRANSACTION_BYTES), {
    sequence,
    slots,
    ...facts,
    changes,
    announced,
    sliceStart,
    slice: table.subarray(sliceStart, Math.min(sliceStart + SLICE_SLOTS, slots)),
  });
  cell.copyWithin(TRANSACTION_BYTES, 0, TRANSACTION_BYTES);
}
