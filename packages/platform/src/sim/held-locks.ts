/** The locks that the processes of a host hold, by name. */
import type { FileLock } from '../files.js';

export class HeldLocks {
  readonly #held = new Set<string>();

  isHeld(name: string): boolean {
    return this.#held.has(name);
  }

  take(name: string): FileLock {
    this.#held.add(name);
    return {
      release: () => {
        this.#held.delete(name);
        return Promise.resolve();
      },
    };
  }
}
