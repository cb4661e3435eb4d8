/** A gate that what comes by must wait at while it is shut; they go on in the order in which they came. */
export class Gate {
  #waiting: (() => void)[] = [];
  #isShut = false;

  get isShut(): boolean {
    return this.#isShut;
  }

  shut(): void {
    this.#isShut = true;
  }

  open(): void {
    this.#isShut = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const goOn of waiting) goOn();
  }

  /** Resolves when it is opened next. */
  opened(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
