/**
 * The hub's newest events on disk, so that a restart does not forget them: DATA/events.log, and DATA/events.old.log
 * with those before. Two files of 4 MiB at most; when the first is full it takes the second one's place.
 *
 * Always holds:
 *  - nobody waits for it and nothing rests on it: what fails here is told once, the hub goes on, and the events that
 *    could not be written are tried again (the newest 1000);
 *  - an event is with the kernel as soon as the one before it is, so a killed hub has lost none that was long told;
 *    it is synced some seconds later, away from every other sync;
 *  - a torn end is cut off, damaged lines are left out and counted;
 *  - behind the events lie newlines, written ahead, so that on a full disk there is room for the last event of a run: how it ended.
 * Must not know: what the events mean.
 */
import { asError, type Clock, type FileSystem, type OpenFile, type Timer } from '@rephub/platform';
import { formatEvent, MAX_LINE_BYTES, parseEvents } from './event-lines.js';
import { isWantOfFile } from '../storage/index.js';
import type { HubEvent } from './events.js';

export const EVENTS_FILE_BYTES = 4 * 1024 * 1024;
const SYNC_AFTER_MS = 10_000;
const TRY_AGAIN_MS = 30_000;
const WAITING_MAX = 1000;
const NEWLINE = Buffer.from('\n');
/** Room for the last event, which no other one takes; and how much is written ahead at once. */
const LAST_WORD_BYTES = 512;
/** Fewer than so many newlines besides, and more are written after an event: the next one, of a process that ends, finds them. */
const NEXT_BYTES = 4096;
const AHEAD_BYTES = 8192;

export type EventsTrouble = (
  event: 'events-damaged' | 'events-not-kept' | 'events-kept-again',
  message: string,
) => void;

export interface EventsFileOptions {
  readonly clock: Clock;
  readonly files: FileSystem;
  /** DATA */
  readonly directory: string;
  readonly trouble: EventsTrouble;
}

interface Waiting {
  readonly id: number;
  readonly line: Buffer;
}

export class EventsFile {
  /** What an earlier run has told, oldest first. */
  readonly earlier: readonly HubEvent[];
  readonly #options: EventsFileOptions;
  #file: OpenFile | null = null;
  #position: number;
  /** Where the newlines that this run has written ahead end. */
  #aheadBytes = 0;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  #retry: Timer | null = null;
  #syncSoon: Timer | null = null;
  /** The file's name is not known to be on the disk. */
  #isNewName = false;
  #isFailing = false;
  #isSyncGood = true;
  /** The newest event in the file, and the newest that is on the disk with all before it but for those that were lost. */
  #writtenId = -1;
  #syncedId = -1;
  /** Events from the first to the last of these ids may be on no disk. */
  #lost: { from: number; to: number } | null = null;
  #isClosed = false;

  /** Reads what is there. Never throws: without a file that can be read it begins with none. */
  static async open(options: EventsFileOptions): Promise<EventsFile> {
    const { directory, trouble } = options;
    const older = await readEvents(options, `${directory}/events.old.log`);
    const newer = await readEvents(options, `${directory}/events.log`);
    const damaged = older.damaged + newer.damaged;
    if (damaged > 0) {
      trouble('events-damaged', `${damaged} lines of earlier events are damaged and left out`);
    }
    const lastOlder = older.events.at(-1)?.id ?? -1;
    const earlier = [...older.events, ...newer.events.filter(({ id }) => id > lastOlder)];
    return new EventsFile(options, earlier, newer.endBytes);
  }

  private constructor(options: EventsFileOptions, earlier: readonly HubEvent[], position: number) {
    this.#options = options;
    this.earlier = earlier;
    this.#position = position;
  }

  /** This event of this run is on the disk. */
  isKept(id: number): boolean {
    return id <= this.#syncedId && (this.#lost === null || id < this.#lost.from || id > this.#lost.to);
  }

  #lose(from: number, to: number): void {
    if (from > to) return;
    this.#lost = { from: Math.min(from, this.#lost?.from ?? from), to: Math.max(to, this.#lost?.to ?? to) };
  }

  /** Keeps the event as soon as it can. */
  write(event: HubEvent): void {
    if (this.#isClosed) return;
    this.#waiting.push({ id: event.id, line: formatEvent(event) });
    this.#dropOldest();
    this.#begin();
  }

  /** What waits is written, or given up; synced and closed. Never throws. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#retry = null;
    await this.#writing;
    await this.#drain();
    await this.#lastWord();
    this.#syncSoon?.cancel();
    await this.#file?.truncate(this.#position).catch(() => undefined);
    await this.#sync();
    await this.#closeFile();
  }

  #dropOldest(): void {
    const dropped = this.#waiting.splice(0, Math.max(0, this.#waiting.length - WAITING_MAX));
    for (const { id } of dropped) this.#lose(id, id);
  }

  #begin(): void {
    if (this.#writing !== null || this.#retry !== null) return;
    this.#writing = this.#drain().finally(() => {
      this.#writing = null;
    });
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const lines = this.#waiting;
      try {
        this.#waiting = [];
        await this.#put(lines);
      } catch (thrown) {
        this.#waiting = [...lines, ...this.#waiting];
        this.#dropOldest();
        await this.#failed(asError(thrown));
        return;
      }
      if (this.#isFailing) {
        this.#isFailing = false;
        this.#options.trouble('events-kept-again', `${this.#path} takes events again`);
      }
    }
  }

  /** What could not be written is given up but for the last event. */
  async #lastWord(): Promise<void> {
    const last = this.#waiting.pop();
    if (last === undefined) return;
    for (const { id } of this.#waiting) this.#lose(id, id);
    this.#waiting = [last];
    await this.#drain();
  }

  #lacks(endBytes: number, bytes: number): boolean {
    return !this.#isClosed && endBytes + bytes > this.#aheadBytes;
  }

  /** Where that cannot be had, an event waits rather than take the room of the last one. */
  async #writeAhead(file: OpenFile, endBytes: number): Promise<void> {
    const from = Math.max(this.#position, this.#aheadBytes);
    const to = endBytes + AHEAD_BYTES;
    await file.write([Buffer.alloc(to - from, NEWLINE)], from);
    this.#aheadBytes = to;
  }

  async #put(waiting: readonly Waiting[]): Promise<void> {
    const lines = waiting.map(({ line }) => line);
    const lengthBytes = lines.reduce((sum, line) => sum + line.length, 0);
    if (this.#position > 0 && this.#position + lengthBytes > EVENTS_FILE_BYTES) await this.#turnOver();
    const isOpen = this.#file !== null;
    this.#file ??= await this.#openFile();
    const first = isOpen || this.#position === 0 ? [] : [NEWLINE];
    const endBytes = this.#position + first.length + lengthBytes;
    // Nothing is awaited where nothing must be: a bug that ends the process has this call and no later one.
    if (this.#lacks(endBytes, LAST_WORD_BYTES)) await this.#writeAhead(this.#file, endBytes);
    await this.#file.write([...first, ...lines], this.#position);
    this.#position = endBytes;
    this.#writtenId = waiting.at(-1)?.id ?? this.#writtenId;
    if (!this.#isClosed) this.#syncSoon ??= this.#options.clock.after(SYNC_AFTER_MS, () => void this.#sync());
    if (!this.#lacks(endBytes, LAST_WORD_BYTES + NEXT_BYTES)) return;
    await this.#writeAhead(this.#file, endBytes).catch(() => undefined);
  }

  async #openFile(): Promise<OpenFile> {
    const { files } = this.#options;
    const isThere = (await files.status(this.#path)) !== null;
    const file = await files.open(this.#path, 'create');
    try {
      const { sizeBytes } = await file.status();
      const known = Math.max(this.#position, this.#aheadBytes);
      if (sizeBytes > known) await file.truncate(known);
      else if (sizeBytes < this.#position) this.#position = sizeBytes;
      this.#aheadBytes = Math.min(this.#aheadBytes, sizeBytes);
    } catch (thrown) {
      await file.close().catch(() => undefined);
      throw thrown;
    }
    this.#isNewName ||= !isThere;
    this.#isSyncGood = true;
    return file;
  }

  async #turnOver(): Promise<void> {
    await this.#sync();
    await this.#closeFile();
    await this.#options.files.rename(this.#path, `${this.#options.directory}/events.old.log`);
    this.#position = 0;
    this.#aheadBytes = 0;
    this.#isNewName = true;
  }

  async #failed(error: Error): Promise<void> {
    // What lies unsynced in a file that fails is not believed to be there, whatever a later sync says.
    this.#lose(this.#syncedId + 1, this.#writtenId);
    const wasFailing = this.#isFailing;
    this.#isFailing = true;
    // Before the trouble is told: that is an event too, and waits with the others.
    if (!this.#isClosed) {
      this.#retry = this.#options.clock.after(TRY_AGAIN_MS, () => {
        this.#retry = null;
        this.#begin();
      });
    }
    await this.#closeFile();
    if (!wasFailing) this.#tellNotKept(error);
  }

  async #sync(): Promise<void> {
    this.#syncSoon?.cancel();
    this.#syncSoon = null;
    const file = this.#file;
    const written = this.#writtenId;
    if (file === null || !this.#isSyncGood) return;
    try {
      await file.sync();
      if (this.#isNewName) {
        this.#isNewName = false;
        await this.#syncName();
      }
      this.#syncedId = Math.max(this.#syncedId, written);
    } catch (thrown) {
      // Closed meanwhile, it was turned over or had failed; else a sync that has failed proves nothing any more.
      if (this.#file !== file) return;
      if (this.#isNewName && isWantOfFile(thrown)) {
        if (!this.#isClosed) this.#syncSoon ??= this.#options.clock.after(TRY_AGAIN_MS, () => void this.#sync());
        return;
      }
      this.#isSyncGood = false;
      this.#lose(this.#syncedId + 1, written);
      this.#tellNotKept(asError(thrown));
    }
  }

  async #syncName(): Promise<void> {
    const { directory, files } = this.#options;
    try {
      await files.syncDirectory(directory);
    } catch (thrown) {
      this.#isNewName = true;
      throw thrown;
    }
  }

  #tellNotKept(error: Error): void {
    const message = `${this.#path}: ${error.message}; events may be lost with the next restart, nothing else is`;
    this.#options.trouble('events-not-kept', message);
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close().catch(() => undefined);
  }

  get #path(): string {
    return `${this.#options.directory}/events.log`;
  }
}

interface Found {
  readonly events: readonly HubEvent[];
  readonly damaged: number;
  /** Where to go on writing. */
  readonly endBytes: number;
}

const NOTHING: Found = { events: [], damaged: 0, endBytes: 0 };

async function readEvents({ files, trouble }: EventsFileOptions, path: string): Promise<Found> {
  try {
    const status = await files.status(path);
    if (status === null) return NOTHING;
    const file = await files.open(path, 'read');
    try {
      const from = Math.max(0, status.sizeBytes - EVENTS_FILE_BYTES - MAX_LINE_BYTES);
      const bytes = Buffer.alloc(status.sizeBytes - from);
      const read = await file.read(bytes, from);
      const { events, damaged, goodBytes } = parseEvents(bytes.subarray(0, read), from > 0);
      let endBytes = read;
      while (endBytes > goodBytes && bytes[endBytes - 1] === NEWLINE[0]) endBytes -= 1;
      // More than a torn write is kept where it is, for whoever wants to look at it.
      const isTorn = from === 0 && endBytes - goodBytes <= MAX_LINE_BYTES;
      return { events, damaged: damaged + (isTorn ? 0 : 1), endBytes: isTorn ? goodBytes : status.sizeBytes };
    } finally {
      await file.close().catch(() => undefined);
    }
  } catch (thrown) {
    trouble('events-damaged', `${path} cannot be read, and a new one is begun: ${asError(thrown).message}`);
    // One that is kept aside is enough to look at; where even that fails, writing says so.
    await files.rename(path, `${path}.damaged`).catch(() => undefined);
    return NOTHING;
  }
}
