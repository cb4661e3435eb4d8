/**
 * Writes pages of the fine bitmap: what extents leave behind when they are cooled, large ranges before they
 * are written, and what proof has made superfluous.
 *
 * Always holds:
 *  - a page is written only between a durable transaction that announces it and the next one without it;
 *  - an extent becomes READY only after the images that hold its marks are durable;
 *  - one batch of pages is under way at a time, so one of a page's two copies is always whole.
 * Must not know: which write waits for what, network.
 */
import { asError, assert } from '@rephub/platform';
import { PAGE_BYTES, PAGE_HEADER_BYTES, PAGE_WORDS } from './geometry.js';
import { PREPARING, READY } from './hot-set.js';
import type { LogLoop } from './log-loop.js';
import type { MapFile } from './map-file.js';
import type { Marks } from './marks.js';
import { MAX_ANNOUNCED, type PageRun } from './transaction.js';
import type { VolumeMarks } from './volume-marks.js';

/** Pages written between one announcement and the next. */
const BATCH_PAGES = 1024;
/** Pages in flight at once. */
const PARALLEL_PAGES = 32;

export interface PageWriterHooks {
  restsOn(): number;
  /** Extents may have become ready to be cooled that were not before. */
  prepared(): void;
  failed(error: Error): void;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class PageWriter {
  readonly #marks: Marks;
  readonly #loop: LogLoop;
  readonly #maps: ReadonlyMap<number, MapFile>;
  readonly #hooks: PageWriterHooks;
  readonly #images: readonly Buffer[];
  /** How many of the oldest extents are to be made ready. */
  #toPrepare = 0;
  #writesAdded = false;
  #writesStale = false;
  /** The newest transaction may still announce pages. */
  #isAnnounced = false;
  #waiters: Waiter[] = [];
  readonly #alone: (() => Promise<void>)[] = [];
  #running: Promise<void> | null = null;
  #stopped: Error | null = null;

  constructor(marks: Marks, loop: LogLoop, maps: ReadonlyMap<number, MapFile>, hooks: PageWriterHooks) {
    this.#marks = marks;
    this.#loop = loop;
    this.#maps = maps;
    this.#hooks = hooks;
    this.#images = Array.from({ length: PARALLEL_PAGES }, () => Buffer.from(new ArrayBuffer(PAGE_BYTES)));
  }

  /** Makes up to `count` of the extents used least recently ready to be cooled. */
  prepare(count: number): void {
    this.#toPrepare = Math.max(this.#toPrepare, count);
    this.#kick();
  }

  /** Resolves when every mark that was added before this call is durable in the fine bitmap. */
  writeAdded(): Promise<void> {
    this.#writesAdded = true;
    return this.#wait();
  }

  /** Resolves when the fine bitmap on the disk is as it was here at some moment after this call, or newer. */
  writeStale(): Promise<void> {
    this.#writesStale = true;
    return this.#wait();
  }

  /** Resolves when all idle extents are ready to be cooled, those excepted that are written to meanwhile. */
  prepareAll(): Promise<void> {
    this.#toPrepare = this.#marks.hot.slots;
    return this.#wait();
  }

  /** Runs `work` while no page is being written. Rejects with its error, which is no error of the pages. */
  async alone(work: () => Promise<void>): Promise<void> {
    const outcome: { error: unknown } = { error: null };
    const done = new Promise<void>((resolve) => {
      this.#alone.push(async () => {
        try {
          if (this.#stopped !== null) throw this.#stopped;
          await work();
        } catch (thrown) {
          outcome.error = thrown;
        }
        resolve();
      });
    });
    this.#kick();
    await done;
    if (outcome.error !== null) throw asError(outcome.error);
  }

  stop(error: Error): void {
    this.#stopped = error;
    // With nobody at work they are turned away here; else by whoever is at work, when it is done.
    if (this.#running === null) for (const work of this.#alone.splice(0)) void work();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }

  async settled(): Promise<void> {
    await this.#running;
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#kick();
    });
  }

  #kick(): void {
    if (this.#stopped !== null) this.stop(this.#stopped);
    else this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    let waiters: Waiter[] = [];
    try {
      await Promise.resolve();
      while (this.#stopped === null && (this.#toPrepare > 0 || this.#waiters.length > 0 || this.#alone.length > 0)) {
        for (let work = this.#alone.shift(); work !== undefined; work = this.#alone.shift()) await work();
        waiters = this.#waiters.splice(0);
        const { preparing, ready } = this.#prepareSlots();
        const runs = this.#pagesToWrite(preparing);
        for (const batch of batchesOf(runs)) await this.#writeBatch(batch);
        // The announcement must be gone before somebody relies on these pages for good.
        if (this.#isAnnounced && waiters.length > 0) {
          await this.#loop.commit();
          this.#isAnnounced = false;
        }
        let news = ready;
        for (const slot of preparing) {
          if (this.#marks.hot.readiness(slot) !== PREPARING) continue;
          this.#marks.hot.setReadiness(slot, READY);
          news += 1;
        }
        // Written pages help proven extents too that were not asked for.
        if (news > 0 || runs.length > 0) this.#hooks.prepared();
        for (const waiter of waiters.splice(0)) waiter.resolve();
      }
    } catch (thrown) {
      const error = asError(thrown);
      const isFirst = this.#stopped === null;
      this.stop(error);
      for (const waiter of waiters) waiter.reject(error);
      if (isFirst) this.#hooks.failed(error);
    } finally {
      this.#running = null;
      if (this.#stopped !== null) for (const work of this.#alone.splice(0)) void work();
    }
  }

  /** Prepares the oldest idle extents: some need pages to be written first, others are ready at once. */
  #prepareSlots(): { readonly preparing: readonly number[]; readonly ready: number } {
    const { hot } = this.#marks;
    const preparing: number[] = [];
    let ready = 0;
    let left = this.#toPrepare;
    this.#toPrepare = 0;
    for (let slot = hot.oldest(); slot >= 0 && left > 0; slot = hot.newerThan(slot)) {
      if (!hot.isIdle(slot)) continue;
      left -= 1;
      if (this.#marks.canCool(slot)) continue;
      this.#marks.prepare(slot);
      if (hot.readiness(slot) === PREPARING) preparing.push(slot);
      else ready += 1;
    }
    return { preparing, ready };
  }

  #pagesToWrite(slots: readonly number[]): PageRun[] {
    const wanted = new Map<VolumeMarks, Set<number>>(this.#marks.volumes.map((volume) => [volume, new Set()]));
    for (const slot of slots) {
      const { volume, first, last } = this.#marks.pagesOf(slot);
      for (let page = first; page <= last; page += 1) {
        if (volume.lacksMarks(page)) wanted.get(volume)?.add(page);
      }
    }
    const [writesAdded, writesStale] = [this.#writesAdded, this.#writesStale];
    this.#writesAdded = false;
    this.#writesStale = false;
    for (const [volume, pages] of wanted) {
      if (!writesAdded && !writesStale) break;
      for (let page = 0; page < volume.geometry.pages; page += 1) {
        const isWanted = writesStale ? volume.isStale(page) : volume.lacksMarks(page);
        if (isWanted) pages.add(page);
      }
    }
    return [...wanted].flatMap(([volume, pages]) => {
      // Nothing wanted of it, and it may be gone with its map.
      if (pages.size === 0) return [];
      const map = this.#mapOf(volume);
      return runsOf(volume.geometry.index, pages, (page) => map.nextCopy(page));
    });
  }

  async #writeBatch(batch: readonly PageRun[]): Promise<void> {
    this.#loop.announce(batch);
    this.#isAnnounced = true;
    await this.#loop.commit();
    const pages = batch.flatMap((run) =>
      Array.from({ length: run.count }, (_, index) => ({
        volume: this.#marks.volume(run.volume),
        page: run.first + index,
      })),
    );
    for (let at = 0; at < pages.length; at += PARALLEL_PAGES) {
      await this.#writePages(pages.slice(at, at + PARALLEL_PAGES));
    }
    for (const index of new Set(batch.map(({ volume }) => volume))) await this.#maps.get(index)?.sync();
    for (const { volume, page } of pages) volume.pageWritten(page);
    this.#loop.announce([]);
  }

  async #writePages(pages: readonly { readonly volume: VolumeMarks; readonly page: number }[]): Promise<void> {
    const restsOn = this.#hooks.restsOn();
    const composed = pages.map(({ volume, page }, index) => {
      const image = this.#images[index] ?? Buffer.from(new ArrayBuffer(PAGE_BYTES));
      const words = new Uint32Array(image.buffer, image.byteOffset + PAGE_HEADER_BYTES, PAGE_WORDS);
      return { volume, page, image, words };
    });
    this.#marks.composePages(composed);
    await Promise.all(composed.map(({ volume, page, image }) => this.#mapOf(volume).writePage(page, image, restsOn)));
  }

  #mapOf(volume: VolumeMarks): MapFile {
    const map = this.#maps.get(volume.geometry.index);
    assert(map !== undefined, `volume ${volume.geometry.name} has a map`);
    return map;
  }
}

/** The pages as runs, in order; those of a run go over the same one of their copies. */
function runsOf(volume: number, pages: ReadonlySet<number>, copyOf: (page: number) => 0 | 1): PageRun[] {
  const runs: { volume: number; first: number; count: number; copy: 0 | 1 }[] = [];
  for (const page of [...pages].sort((a, b) => a - b)) {
    const copy = copyOf(page);
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === page && last.copy === copy) last.count += 1;
    else runs.push({ volume, first: page, count: 1, copy });
  }
  return runs;
}

/** Runs cut and grouped so that each group can be announced at once. */
function* batchesOf(runs: readonly PageRun[]): Generator<PageRun[]> {
  let batch: PageRun[] = [];
  let pages = 0;
  for (const run of runs) {
    for (let done = 0; done < run.count;) {
      if (batch.length === MAX_ANNOUNCED || pages === BATCH_PAGES) {
        yield batch;
        batch = [];
        pages = 0;
      }
      const count = Math.min(run.count - done, BATCH_PAGES - pages);
      batch.push({ ...run, first: run.first + done, count });
      done += count;
      pages += count;
    }
  }
  if (batch.length > 0) yield batch;
}
