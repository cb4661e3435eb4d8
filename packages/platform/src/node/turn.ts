/** Resolves when every promise that could settle by itself has: after the microtasks of this turn of the event loop. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
