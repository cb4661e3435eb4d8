/** Turns of the event loop, for virtual time: what makes "every promise that could settle has settled" true. */

/** Resolves when every promise that could settle by itself has: after the microtasks of this turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Immediates asked for at once: the event loop looks for real events, which costs a system call, once per batch. */
const BATCH = 32;

/**
 * Calls `step` again and again, each time in a turn of its own with all promises settled, until it returns
 * false. Rejects with what it throws.
 */
export function runTurns(step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let queued: NodeJS.Immediate[] = [];
    const end = (): void => {
      for (const immediate of queued) clearImmediate(immediate);
    };
    let left = 0;
    const turn = (): void => {
      left -= 1;
      try {
        if (!step()) {
          end();
          resolve();
          return;
        }
      } catch (thrown) {
        end();
        reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
        return;
      }
      if (left === 0) queue();
    };
    const queue = (): void => {
      left = BATCH;
      queued = Array.from({ length: BATCH }, () => setImmediate(turn));
    };
    queue();
  });
}
