/**
 * Work that waits for a line to have come to a number, to be done when exactly that much of it has been taken: what is
 * looked up then is the content at that number.
 */
interface Wait {
  readonly number: number;
  readonly run: () => void;
}

export class NumberWaits {
  /** In rising order of number. */
  readonly #waits: Wait[] = [];

  /** The lowest number that is waited for; Infinity when none is. */
  get lowest(): number {
    return this.#waits[0]?.number ?? Infinity;
  }

  get count(): number {
    return this.#waits.length;
  }

  /** `run` is called once `reached` is told of this number or a higher one; not after the returned function was. */
  add(number: number, run: () => void): () => void {
    const wait = { number, run };
    const after = this.#waits.findIndex((other) => other.number > number);
    if (after < 0) this.#waits.push(wait);
    else this.#waits.splice(after, 0, wait);
    return () => {
      const at = this.#waits.indexOf(wait);
      if (at >= 0) this.#waits.splice(at, 1);
    };
  }

  /** All records up to this number have been taken, and none above it. */
  reached(number: number): void {
    while (this.lowest <= number) this.#waits.shift()?.run();
  }
}
