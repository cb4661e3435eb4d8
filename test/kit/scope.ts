/**
 * What a test, a bench or a demo has begun and must end: children, mounts, loop devices, folders.
 *
 * Ends run in reverse order of their beginning, all of them, even when one fails; the first failure is thrown at the
 * end. Knows nothing of vitest: test-scope.ts binds one to a running test.
 */
export class Scope {
  readonly #ends: { readonly what: string; readonly end: () => Promise<unknown> }[] = [];
  #closed = false;

  /** Has `end` called when the scope closes. `what` names it in a failure. */
  defer(what: string, end: () => Promise<unknown>): void {
    if (this.#closed) throw new Error(`${what}: begun after its scope was closed`);
    this.#ends.push({ what, end });
  }

  /** Ends everything, newest first. Calling it again does nothing. */
  async close(): Promise<void> {
    this.#closed = true;
    const failures: Error[] = [];
    for (let next = this.#ends.pop(); next !== undefined; next = this.#ends.pop()) {
      try {
        await next.end();
      } catch (error) {
        failures.push(new Error(`ending ${next.what}: ${error instanceof Error ? error.message : String(error)}`));
      }
    }
    if (failures.length > 0) throw failures[0] ?? new Error('unreachable');
  }
}
