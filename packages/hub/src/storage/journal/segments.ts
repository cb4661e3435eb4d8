/**
 * The segment files of one line's journal: which there are, open handles of the few that are in use, and their removal.
 *
 * Always holds:
 *  - `list` is in order of position; only the last segment is written to;
 *  - a segment that is being read is neither removed nor used again: that waits for its last reader;
 *  - a removed segment may be kept under another name (`spare-N`) as the next one: overwriting blocks that were written
 *    before spares the file system a commit of its own journal with every sync.
 * Must not know: what frames say, when a segment may go.
 */
import { type FileSystem, type OpenFile } from '@rephub/platform';
import type { SegmentInfo } from './segment-header.js';

/** Handles kept open without being in use. */
const MOST_IDLE_HANDLES = 32;
/** Segments kept for being used again. */
const MOST_SPARES = 2;
const SPARE_NAME = /^spare-\d+$/;
const SEGMENT_NAME = /^(\d{20})\.seg$/;

export class Segment {
  /** Journal position of its first byte. */
  readonly base: number;
  readonly path: string;
  readonly info: SegmentInfo;
  readonly headerBytes: number;
  /** Position after its last frame; Infinity while it is written to. */
  end = Infinity;
  /** Bytes of the file. */
  sizeBytes: number;
  users = 0;
  doomed = false;
  opened: Promise<OpenFile> | null = null;

  constructor(path: string, info: SegmentInfo, headerBytes: number, sizeBytes: number) {
    this.base = info.base;
    this.path = path;
    this.info = info;
    this.headerBytes = headerBytes;
    this.sizeBytes = sizeBytes;
  }
}

export interface Spare {
  readonly path: string;
  readonly sizeBytes: number;
}

export function segmentName(base: number): string {
  return `${base.toString().padStart(20, '0')}.seg`;
}

/** The position in a segment's name; null for other names. */
export function segmentBase(name: string): number | null {
  const digits = SEGMENT_NAME.exec(name)?.[1];
  return digits === undefined ? null : Number(digits);
}

export class SegmentSet {
  readonly #files: FileSystem;
  readonly directory: string;
  readonly list: Segment[] = [];
  readonly #idle: Segment[] = [];
  readonly #spares: Spare[] = [];
  readonly #removals = new Set<Promise<void>>();
  readonly #recycles: boolean;
  readonly #pastCache: boolean;
  #madeSpares = 0;
  #fileBytes = 0;
  #keepSpares = true;

  /** `pastCache`: written past the page cache, for what is synced often and seldom read. */
  constructor(
    files: FileSystem,
    directory: string,
    options: { readonly recycles: boolean; readonly pastCache: boolean },
  ) {
    this.#files = files;
    this.directory = directory;
    this.#recycles = options.recycles;
    this.#pastCache = options.pastCache;
  }

  /** Bytes of all files, those that wait for being used again included. */
  get bytes(): number {
    let bytes = this.#fileBytes;
    for (const spare of this.#spares) bytes += spare.sizeBytes;
    return bytes;
  }

  get last(): Segment | null {
    return this.list[this.list.length - 1] ?? null;
  }

  add(segment: Segment): void {
    this.list.push(segment);
    this.#fileBytes += segment.sizeBytes;
  }

  grown(segment: Segment, sizeBytes: number): void {
    this.#fileBytes += sizeBytes - segment.sizeBytes;
    segment.sizeBytes = sizeBytes;
  }

  /** The segment that holds the byte at `position`; null when it has gone or never was. */
  find(position: number): Segment | null {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.list[middle] as Segment).base > position) high = middle;
      else low = middle + 1;
    }
    const segment = this.list[low - 1];
    return segment !== undefined && position < segment.end ? segment : null;
  }

  /** Marks the segment as used; `release` must follow. The handle is opened when it is not open. */
  acquire(segment: Segment): Promise<OpenFile> {
    segment.users += 1;
    if (segment.opened === null) {
      const opened = this.#files.open(segment.path, 'write', { pastCache: this.#pastCache });
      segment.opened = opened;
      opened.catch(() => {
        if (segment.opened === opened) segment.opened = null;
      });
    }
    return segment.opened;
  }

  release(segment: Segment): void {
    segment.users -= 1;
    if (segment.users > 0) return;
    if (segment.doomed) {
      this.#track(this.#discard(segment));
      return;
    }
    const known = this.#idle.indexOf(segment);
    if (known >= 0) this.#idle.splice(known, 1);
    this.#idle.push(segment);
    if (this.#idle.length <= MOST_IDLE_HANDLES) return;
    const oldest = this.#idle.shift();
    if (oldest !== undefined && oldest.users === 0) void closeQuietly(oldest);
  }

  /** Takes out all segments but the last that end at or below `position`; the files go as soon as nobody reads them. */
  removeBelow(position: number): void {
    while (this.list.length > 1) {
      const first = this.list[0];
      if (first === undefined || first.end > position) break;
      this.list.shift();
      this.#drop(first);
    }
  }

  /** Files that were left by another life of this directory: names that are neither segments nor wanted. */
  async adoptSpares(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (!SPARE_NAME.test(name)) continue;
      const path = `${this.directory}/${name}`;
      const status = await this.#files.status(path);
      if (status === null) continue;
      this.#madeSpares = Math.max(this.#madeSpares, Number(name.slice('spare-'.length)));
      if (this.#recycles && this.#spares.length < MOST_SPARES) this.#spares.push({ path, sizeBytes: status.sizeBytes });
      else await this.#files.remove(path);
    }
  }

  /** A file to make the next segment of; null when there is none. */
  takeSpare(): Spare | null {
    return this.#spares.shift() ?? null;
  }

  /** A path for a new file that is not a segment yet. */
  newSparePath(): string {
    this.#madeSpares += 1;
    return `${this.directory}/spare-${this.#madeSpares}`;
  }

  /** The disk is full: nothing is kept for later. */
  async freeSpares(): Promise<void> {
    this.#keepSpares = false;
    for (let spare = this.takeSpare(); spare !== null; spare = this.takeSpare()) {
      // One that cannot be removed is found again by the next start.
      await this.#files.remove(spare.path).catch(() => undefined);
    }
  }

  /** There is room again. */
  keepSpares(): void {
    this.#keepSpares = true;
  }

  /** Waits for removals under way and closes all handles. Nobody may be reading. */
  async close(): Promise<void> {
    while (this.#removals.size > 0) await Promise.all(this.#removals);
    for (const segment of this.list) await closeQuietly(segment);
    this.#idle.length = 0;
  }

  #drop(segment: Segment): void {
    segment.doomed = true;
    this.#fileBytes -= segment.sizeBytes;
    if (segment.users === 0) this.#track(this.#discard(segment));
  }

  #track(removal: Promise<void>): void {
    const tracked = removal
      // The file stays behind; the next start finds it below the applied position and removes it.
      .catch(() => undefined)
      .finally(() => this.#removals.delete(tracked));
    this.#removals.add(tracked);
  }

  async #discard(segment: Segment): Promise<void> {
    const known = this.#idle.indexOf(segment);
    if (known >= 0) this.#idle.splice(known, 1);
    await closeQuietly(segment);
    if (this.#recycles && this.#keepSpares && this.#spares.length < MOST_SPARES) {
      const spare = { path: this.newSparePath(), sizeBytes: segment.sizeBytes };
      await this.#files.rename(segment.path, spare.path);
      this.#spares.push(spare);
    } else {
      await this.#files.remove(segment.path);
    }
  }
}

async function closeQuietly(segment: Segment): Promise<void> {
  const { opened } = segment;
  segment.opened = null;
  if (opened === null) return;
  try {
    await (await opened).close();
  } catch {
    // Nothing that counts is written through this handle any more.
  }
}
