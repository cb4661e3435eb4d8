/**
 * GROUP/heard.json: since when, at the latest, the newest point lacks writes, as the agent's reports told it, for a hub
 * that is started again and has heard nobody yet. Written in place, never synced: nothing waits for it. Again and
 * again, also when nothing new is known: so a wall clock that jumps while the hub runs is followed.
 *
 * Always holds (RPO): what is told after a restart is never less than what was known when it was written and the time
 * since the restart, whatever became of the wall clock in between; an old, torn or lost file makes it only worse.
 * Must not know: what is shown to whom.
 */
import { type Clock, crc32, type FileSystem, readSmallFile } from '@rephub/platform';
import { z } from 'zod';

/** No write that a point from `number` on lacks was made before `sinceUnixMs`; this host's wall clock said `writtenUnixMs` then. */
export interface Heard {
  readonly line: string;
  readonly number: number;
  readonly sinceUnixMs: number;
  readonly writtenUnixMs: number;
}

/** What there is at the hub when that is written. */
export interface HeldPoint {
  readonly line: string;
  /** Durable, and not above the newest point. */
  readonly number: number;
}

/** The most that a Date can show, both ways. */
const MOST_MS = 8.64e15;
const unixMs = z.number().min(-MOST_MS).max(MOST_MS);

const schema = z.object({
  line: z.string(),
  number: z.number(),
  sinceUnixMs: unixMs,
  writtenUnixMs: unixMs,
  checksum: z.number(),
});
/** All of it is written each time, in one sector. */
const FILE_BYTES = 256;

export class HeardFile {
  readonly #files: FileSystem;
  readonly #path: string;
  #writing: Promise<void> | null = null;

  constructor(files: FileSystem, groupDirectory: string) {
    this.#files = files;
    this.#path = `${groupDirectory}/heard.json`;
  }

  /** Null when nothing is known. Never throws. */
  async read(): Promise<Heard | null> {
    try {
      const bytes = await readSmallFile(this.#files, this.#path);
      if (bytes === null) return null;
      const { checksum, ...heard } = schema.parse(JSON.parse(bytes.toString('utf8')));
      return checksum === checksumOf(heard) ? heard : null;
    } catch {
      return null;
    }
  }

  /** `sinceMs`: as LastReport says it, on the monotonic clock. Never throws. */
  write(clock: Clock, sinceMs: number, held: HeldPoint): Promise<void> {
    this.#writing ??= this.#write(clock, sinceMs, held).finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write(clock: Clock, sinceMs: number, { line, number }: HeldPoint): Promise<void> {
    const writtenUnixMs = Math.floor(clock.unixMs());
    const sinceUnixMs = Math.floor(writtenUnixMs - (clock.monotonicMs() - sinceMs));
    const heard = { line, number, sinceUnixMs, writtenUnixMs };
    const text = JSON.stringify({ ...heard, checksum: checksumOf(heard) }).padEnd(FILE_BYTES - 1);
    try {
      const file = await this.#files.open(this.#path, 'create');
      try {
        await file.write([Buffer.from(`${text}\n`)], 0);
      } finally {
        await file.close();
      }
    } catch {
      // The next one is due in seconds; a disk that fails is told by those who need it.
    }
  }

  /** Another agent has taken the group over. Never throws. */
  async remove(): Promise<void> {
    await this.#writing;
    await this.#files.remove(this.#path).catch(() => undefined);
  }
}

function checksumOf({ line, number, sinceUnixMs, writtenUnixMs }: Heard): number {
  return crc32(Buffer.from(`${line} ${number} ${sinceUnixMs} ${writtenUnixMs}`));
}
