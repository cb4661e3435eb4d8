/**
 * One amount of memory for all groups of a hub. Each has a share: it says how much it uses, and is told how much it may.
 *
 * Always holds:
 *  - while all together fit, each may take what is free; once they do not, nobody has to give way who uses less than others
 *    that need not: those above one common level do, down to it (max-min fair);
 *  - a share learns nothing of another but through its own limit, and all of it is two numbers: one there, one back. So groups
 *    may live in threads of their own one day, with this where they meet;
 *  - a change of somebody's limit is told in a turn of its own.
 * Must not know: what the memory is for.
 */
export class SharedMemory {
  readonly totalBytes: number;
  readonly #shares = new Set<MemoryShare>();
  #usedBytes = 0;
  /** The sum was above the total, and has not come well below it again. */
  #isTight = false;
  /** The same of twice the total. */
  #isExhausted = false;
  #levelBytes = Infinity;
  #farLevelBytes = Infinity;
  /** What has changed since the levels were found. */
  #driftBytes = 0;
  #isTelling = false;

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
  }

  /** Of all shares. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  get isExhausted(): boolean {
    return this.#isExhausted;
  }

  /** `changed` is called when the share's limit may be another. */
  open(changed: () => void): MemoryShare {
    const share = new MemoryShare(this, changed);
    this.#shares.add(share);
    return share;
  }

  /** For shares: gone, and what it used with it. */
  leave(share: MemoryShare): void {
    this.#shares.delete(share);
  }

  /** For shares: so many bytes more or less are used. Cheap while it is not tight. */
  moved(bytes: number): void {
    this.#usedBytes += bytes;
    this.#driftBytes += Math.abs(bytes);
    const total = this.totalBytes;
    const isTight = this.#usedBytes > (this.#isTight ? total * RELIEVED : total);
    const isExhausted = this.#usedBytes > (this.#isExhausted ? 2 * total * RELIEVED : 2 * total);
    const isSame = isTight === this.#isTight && isExhausted === this.#isExhausted;
    if (isSame && (!isTight || this.#driftBytes < total * DRIFT)) return;
    this.#isTight = isTight;
    this.#isExhausted = isExhausted;
    this.#driftBytes = 0;
    this.#levelBytes = isTight ? this.#level(total) : Infinity;
    this.#farLevelBytes = isExhausted ? this.#level(2 * total) : Infinity;
    this.#tellSoon();
  }

  /** For shares: what one that uses so much may use. */
  limitOf(usedBytes: number): number {
    return this.#isTight ? this.#levelBytes : this.totalBytes - this.#usedBytes + usedBytes;
  }

  get farLevelBytes(): number {
    return this.#farLevelBytes;
  }

  /** Up to where each may go so that all together use `bytes`. */
  #level(bytes: number): number {
    const used = [...this.#shares].map(({ usedBytes }) => usedBytes).sort((one, other) => one - other);
    let left = bytes;
    for (const [index, own] of used.entries()) {
      const even = left / (used.length - index);
      if (own > even) return even;
      left -= own;
    }
    return (used[used.length - 1] ?? 0) + left;
  }

  #tellSoon(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      for (const share of [...this.#shares]) share.changed();
    });
  }
}

/** Relief begins when so much of what was passed is used. */
const RELIEVED = 0.75;
/** Levels are found anew when so much of the total has moved. */
const DRIFT = 1 / 32;

export class MemoryShare {
  /** For the memory that it is a share of only. */
  readonly changed: () => void;
  readonly #memory: SharedMemory;
  #usedBytes = 0;

  constructor(memory: SharedMemory, changed: () => void) {
    this.#memory = memory;
    this.changed = changed;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** What it may use as things are. */
  get limitBytes(): number {
    return this.#memory.limitOf(this.#usedBytes);
  }

  /** It uses more than it may. */
  get isOver(): boolean {
    return this.#usedBytes > this.limitBytes;
  }

  /** All together use more than twice what there is, and this one more than its part of that. */
  get isFarOver(): boolean {
    return this.#usedBytes > this.#memory.farLevelBytes;
  }

  /** All together use more than twice what there is. */
  get isExhausted(): boolean {
    return this.#memory.isExhausted;
  }

  /** So much is in use now. */
  use(bytes: number): void {
    const more = bytes - this.#usedBytes;
    if (more === 0) return;
    this.#usedBytes = bytes;
    this.#memory.moved(more);
  }

  /** Gives everything back. Harmless twice. */
  close(): void {
    this.use(0);
    this.#memory.leave(this);
  }
}
