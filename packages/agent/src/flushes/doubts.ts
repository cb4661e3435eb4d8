/**
 * What upstream shows and may not have: a flush that failed has dropped it (Linux calls the pages clean and goes on showing
 * them), no later flush makes it stable, and a power cut would bring back what was there before. Where nobody holds the
 * content to play it again, it is read and written again before it counts as copied; until then its mark stays (promise CLEAR).
 *
 * Always holds: a range leaves only when it has been written again, and no flush has failed while it was.
 * Must not know: marks, records, who reads.
 */
import { appendZeroes, type BlockDevice, BlockRequest, Command, cutSlices, NbdError } from '@rephub/nbd';
import { type Piece, Ranges } from '../ranges.js';

/** More than this is not written again: what nobody can tell apart from it would be, a whole disk in a first sync. */
const MOST_BYTES = 8 * 1024 * 1024 * 1024;
const MOST_RANGES = 64 * 1024;
/** So many failures in a row, and the copier goes on without: its range is called unreadable. */
const PATIENCE = 8;
/** Zeroes are written in steps: all by one request where upstream can do that, else as data. */
const ZERO_STEP_BYTES = 1024 * 1024 * 1024;
const DATA_STEP_BYTES = 1024 * 1024;

/** What was read of a part of the disk; no data: zeroes. */
export interface Shown extends Piece {
  readonly data: readonly Buffer[];
}

export class Doubts {
  readonly #ranges = new Ranges();
  #bytes = 0;
  #failures = 0;
  #settledBytes = 0;
  /** Rises with each range that comes, so that who was writing it meanwhile knows. */
  #added = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** False: there are too many, and this one is not among them. */
  add(offset: number, length: number): boolean {
    this.#added++;
    const more = sum(this.#ranges.missing(offset, offset + length));
    if (this.#bytes + more > MOST_BYTES || this.#ranges.count >= MOST_RANGES) return more === 0;
    this.#ranges.add(offset, offset + length);
    this.#bytes += more;
    return true;
  }

  /** So many bytes were written again since this was asked last. */
  takeSettledBytes(): number {
    const bytes = this.#settledBytes;
    this.#settledBytes = 0;
    return bytes;
  }

  within(offset: number, length: number): readonly Piece[] {
    return this.#ranges.within(offset, offset + length);
  }

  /**
   * Writes again what is shown of the ranges in doubt, under the caller's range lock. Resolves to the ranges that cannot be
   * written, to be called unreadable; null: not now, to be tried again.
   */
  async settle(device: BlockDevice, shown: readonly Shown[]): Promise<readonly Piece[] | null> {
    const failed: Piece[] = [];
    for (const part of shown) {
      for (const { offset, length } of this.within(part.offset, part.length)) {
        const data = cutSlices(part.data, offset - part.offset, part.data.length === 0 ? 0 : length);
        const added = this.#added;
        if (!(await rewrite(device, offset, length, data))) failed.push({ offset, length });
        // Another flush may have failed, and dropped what was being written.
        else if (added === this.#added) this.#settled(offset, length);
      }
    }
    if (failed.length === 0) {
      this.#failures = 0;
      const isInDoubtAgain = shown.some((part) => this.within(part.offset, part.length).length > 0);
      return isInDoubtAgain ? null : failed;
    }
    this.#failures++;
    return this.#failures < PATIENCE ? null : failed;
  }

  #settled(offset: number, length: number): void {
    this.#ranges.remove(offset, offset + length);
    this.#bytes -= length;
    this.#settledBytes += length;
  }
}

function sum(pieces: readonly Piece[]): number {
  return pieces.reduce((bytes, { length }) => bytes + length, 0);
}

async function rewrite(device: BlockDevice, offset: number, length: number, data: Buffer[]): Promise<boolean> {
  if (data.length > 0) return await change(device, Command.Write, offset, length, data);
  const { writeZeroes } = device.abilities;
  const most = writeZeroes ? ZERO_STEP_BYTES : DATA_STEP_BYTES;
  for (let at = offset; at < offset + length; at += most) {
    const step = Math.min(most, offset + length - at);
    const zeroes: Buffer[] = [];
    if (!writeZeroes) appendZeroes(zeroes, step);
    if (!(await change(device, writeZeroes ? Command.WriteZeroes : Command.Write, at, step, zeroes))) return false;
  }
  return true;
}

function change(
  device: BlockDevice,
  command: Command,
  offset: number,
  length: number,
  data: Buffer[],
): Promise<boolean> {
  return new Promise((resolve) => {
    const request = new BlockRequest({
      completed: ({ error }) => {
        resolve(error === NbdError.Ok);
      },
    });
    request.command = command;
    request.offset = offset;
    request.length = length;
    request.data = data;
    device.submit(request);
  });
}
