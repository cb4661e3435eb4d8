/** So many bytes may be under way at once; who finds no room is told when some of it is free again. */
export class ByteBudget {
  #used = 0;
  #waiting: (() => void)[] = [];

  /** True: taken, to be given back. One is always let in when nothing is taken, however large. */
  take(bytes: number, limitBytes: number): boolean {
    if (this.#used > 0 && this.#used + bytes > limitBytes) return false;
    this.#used += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** Resolves when something is given back. Only to be called after `take` has said no. */
  freed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
