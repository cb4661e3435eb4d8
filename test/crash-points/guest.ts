/**
 * A guest that knows what it may expect of its disk: page by page what it wrote last, and what of that a flush or FUA
 * has made safe. Overlapping requests in flight leave both possibilities open: nothing is expected of their pages.
 */
import {
  connectNbd,
  type ClientPlatform,
  flushDevice,
  type NbdClient,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { sleep } from '@rephub/platform';
import { emptyPages, PAGE, pageId, type Pages } from './pages.js';

/** Nobody knows, or may know, what the page holds. */
const UNKNOWN = 0xffff_ffff;
const RETRY_MS = 20;

export class Guest {
  /** Pages that were ever written to, zeroed or trimmed. */
  readonly touched = new Set<number>();
  readonly #platform: ClientPlatform;
  readonly #uri: string;
  readonly #answered: Pages;
  readonly #safe: Pages;
  /** How many requests in flight touch the page. */
  readonly #inFlight: Uint16Array;
  readonly #isMixed: Uint8Array;
  #client: NbdClient | null = null;
  #made = 0;
  /** Rises when the guest dies with its host: requests from before never happen any more. */
  #lives = 0;

  /** `holds` is what is on its disk now, safely. */
  constructor(platform: ClientPlatform, uri: string, holds: Pages) {
    this.#platform = platform;
    this.#uri = uri;
    this.#answered = holds.slice();
    this.#safe = holds.slice();
    this.#inFlight = new Uint16Array(holds.length);
    this.#isMixed = new Uint8Array(holds.length);
  }

  /** New content that no page ever had. The promise never rejects: what fails is not known to have happened. */
  async write(page: number, pages: number, fua = false): Promise<void> {
    const bytes = Buffer.alloc(pages * PAGE);
    const ids = emptyPages(bytes.length);
    this.#made += 1;
    for (let index = 0; index < pages; index += 1) {
      const part = bytes.subarray(index * PAGE, (index + 1) * PAGE);
      part.fill(`write ${this.#made} of page ${page + index}; `);
      ids[index] = pageId(part);
    }
    await this.#change(page, ids, fua, (client) => writeBytes(client, page * PAGE, bytes, fua));
  }

  async zero(page: number, pages: number): Promise<void> {
    await this.#change(page, emptyPages(pages * PAGE), false, (client) => zeroRange(client, page * PAGE, pages * PAGE));
  }

  /** What is there afterwards is undefined in NBD. */
  async trim(page: number, pages: number): Promise<void> {
    const ids = emptyPages(pages * PAGE).fill(UNKNOWN);
    await this.#change(page, ids, false, (client) => trimRange(client, page * PAGE, pages * PAGE));
  }

  async flush(): Promise<void> {
    const answered = this.#answered.slice();
    const life = this.#lives;
    try {
      await flushDevice(await this.#connected(life));
    } catch {
      return;
    }
    if (life !== this.#lives) return;
    // What was written to again since then may have replaced it.
    for (const page of this.touched) {
      const id = answered[page] ?? UNKNOWN;
      if (this.#answered[page] === id && this.#inFlight[page] === 0) this.#safe[page] = id;
    }
  }

  /** The first page that upstream should hold and does not; null when there is none. After a power cut only what is safe counts. */
  missing(upstream: Pages, afterPowerCut: boolean): string | null {
    const expected = afterPowerCut ? this.#safe : this.#answered;
    for (const page of this.touched) {
      const id = expected[page] ?? UNKNOWN;
      if (id !== UNKNOWN && upstream[page] !== id) return `page ${page}`;
    }
    return null;
  }

  /** The guest has died with its host; the next one finds this on its disk. */
  accept(upstream: Pages): void {
    this.#lives += 1;
    this.#answered.set(upstream);
    this.#safe.fill(UNKNOWN);
    this.#inFlight.fill(0);
    this.#isMixed.fill(0);
    this.#client = null;
  }

  async #change(page: number, ids: Pages, fua: boolean, send: (client: NbdClient) => Promise<void>): Promise<void> {
    const to = page + ids.length;
    for (let at = page; at < to; at += 1) {
      this.touched.add(at);
      this.#answered[at] = UNKNOWN;
      this.#safe[at] = UNKNOWN;
      this.#inFlight[at] = (this.#inFlight[at] ?? 0) + 1;
      if (this.#inFlight[at] !== 1) this.#isMixed[at] = 1;
    }
    const life = this.#lives;
    let isDone = true;
    try {
      await send(await this.#connected(life));
    } catch {
      isDone = false;
    }
    if (life !== this.#lives) return;
    for (let at = page; at < to; at += 1) {
      this.#inFlight[at] = Math.max(0, (this.#inFlight[at] ?? 0) - 1);
      if (isDone && this.#isMixed[at] === 0) {
        const id = ids[at - page] ?? UNKNOWN;
        this.#answered[at] = id;
        if (fua) this.#safe[at] = id;
      }
      if (this.#inFlight[at] === 0) this.#isMixed[at] = 0;
    }
  }

  /** Connects anew for as long as it takes: a guest waits for its disk. */
  async #connected(life: number): Promise<NbdClient> {
    for (;;) {
      if (life !== this.#lives) throw new Error('this guest is dead');
      if (this.#client !== null && this.#client.fault === null) return this.#client;
      try {
        const client = await connectNbd(this.#platform, this.#uri, { timeoutMs: 1000 });
        if (life === this.#lives) this.#client = client;
      } catch {
        await sleep(this.#platform.clock, RETRY_MS);
      }
    }
  }
}
