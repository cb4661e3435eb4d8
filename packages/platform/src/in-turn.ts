/**
 * Tasks that must not overlap: each begins when all that were given before it have ended, well or not.
 * Must not know: what the tasks do.
 */
export class InTurn {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs the task in its turn; the outcome is the task's own, and no concern of those after it. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const outcome = this.#last.then(task);
    this.#last = outcome.catch(() => undefined);
    return outcome;
  }

  /** Resolves when all that were given so far have ended. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
