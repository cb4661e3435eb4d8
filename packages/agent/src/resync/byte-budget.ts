/**
 * So many bytes may be under way at once. Who finds no room waits in line: one is told when there is room, and by taking it, or by
 * passing it on, sees to it that the next one is.
 */
export class ByteBudget {
  #used = 0;
  readonly #waiting: (() => void)[] = [];

  /** True: taken, to be given back. One is always let in when nothing is taken, however large. */
  take(bytes: number, limitBytes: number): boolean {
    if (this.#used > 0 && this.#used + bytes > limitBytes) return false;
    this.#used += bytes;
    if (this.#used < limitBytes) this.passOn();
    return true;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
    this.passOn();
  }

  /** Resolves when there is room again; then `take` or `passOn` is due. Only to be called after `take` has said no. */
  freed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** There is room, and whoever was told of it does not want it: the next one is told. */
  passOn(): void {
    this.#waiting.shift()?.();
  }
}
