/**
 * hot.log as a whole: a ring of 64 cells, each holding the same transaction twice, side by side, so that
 * rot in one copy loses nothing. Pure: from the bytes of the file to the table of hot extents, or to why not.
 *
 * The transaction with sequence n lies in cell n mod 64. Rows of the decision, in order:
 *
 *   R1  any whole block of another version, or of another agent        → fault
 *   R2  no whole block at all                                          → fault
 *   R3  S = the highest sequence; a whole block lies where it belongs not → fault
 *   R4  a cell other than that of S + 1 has no whole block, or one that
 *       is not the newest which must be there                          → fault
 *   R5  otherwise: the last cells up to S rebuild the table. Cell S + 1 may be anything: its transaction
 *       was never waited for.
 */
import { CorruptionFault } from '@rephub/platform';
import { NO_EXTENT } from './geometry.js';
import { decodeTransaction, type PageRun, SLICE_SLOTS, type Transaction, TRANSACTION_BYTES } from './transaction.js';

export const RING_CELLS = 64;
export const CELL_BYTES = 2 * TRANSACTION_BYTES;
export const RING_BYTES = RING_CELLS * CELL_BYTES;

export interface RecoveredRing {
  readonly newest: Transaction;
  /** Extent key per slot. */
  readonly table: Uint32Array;
  /** Pages that may be torn. */
  readonly announced: readonly PageRun[];
}

/** Which consecutive cells cover every slot by their slices. */
function cellsNeeded(slots: number): number {
  return Math.ceil(slots / SLICE_SLOTS);
}

/** The first slot of the slice that the transaction with this sequence carries. */
export function sliceStartOf(sequence: number, slots: number): number {
  return (sequence % cellsNeeded(slots)) * SLICE_SLOTS;
}

/** Rebuilds the table; throws CorruptionFault `hot-log-…` when the ring cannot be relied on. */
export function recoverRing(ring: Buffer, agentId: string): RecoveredRing {
  if (ring.length !== RING_BYTES) {
    throw new CorruptionFault('hot-log-short', `hot.log has ${ring.length} bytes, not ${RING_BYTES}`);
  }
  const cells = Array.from({ length: RING_CELLS }, (_, index) => newestOfCell(ring, index, agentId));
  const newest = cells.reduce((best, cell) => ((cell?.sequence ?? -1) > (best?.sequence ?? -1) ? cell : best), null);
  if (newest === null) throw new CorruptionFault('hot-log-corrupt', 'hot.log: no transaction in it is whole');
  const { sequence, slots } = newest;
  for (let back = 0; back < RING_CELLS - 1; back += 1) {
    const cell = cells[(sequence - back) % RING_CELLS] ?? null;
    if (cell === null || cell.sequence !== sequence - back || cell.slots !== slots) {
      throw new CorruptionFault('hot-log-corrupt', `hot.log: transaction ${sequence - back} is not whole`);
    }
  }
  const table = new Uint32Array(slots).fill(NO_EXTENT);
  for (let back = cellsNeeded(slots) - 1; back >= 0; back -= 1) {
    const cell = cells[(sequence - back) % RING_CELLS] ?? newest;
    for (let index = 0; index < cell.changes.length; index += 2) {
      table[cell.changes[index] ?? 0] = cell.changes[index + 1] ?? NO_EXTENT;
    }
    table.set(cell.slice, cell.sliceStart);
  }
  return { newest, table, announced: newest.announced };
}

function newestOfCell(ring: Buffer, index: number, agentId: string): Transaction | null {
  let best: Transaction | null = null;
  for (const copy of [0, 1]) {
    const start = index * CELL_BYTES + copy * TRANSACTION_BYTES;
    const read = decodeTransaction(ring.subarray(start, start + TRANSACTION_BYTES));
    if (read.kind === 'version') {
      throw new CorruptionFault('hot-log-version', `hot.log is of version ${read.version}, this software reads 1`);
    }
    if (read.kind === 'invalid') continue;
    const { transaction } = read;
    if (transaction.agentId !== agentId) {
      throw new CorruptionFault('hot-log-foreign', `hot.log belongs to agent ${transaction.agentId}, not ${agentId}`);
    }
    if (transaction.sequence % RING_CELLS !== index) {
      throw new CorruptionFault(
        'hot-log-corrupt',
        `hot.log: transaction ${transaction.sequence} lies in cell ${index}`,
      );
    }
    if (transaction.sequence > (best?.sequence ?? -1)) best = transaction;
  }
  return best;
}
