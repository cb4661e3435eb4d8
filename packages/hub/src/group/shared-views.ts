/**
 * Open points, shared: clients that open the same moment of a group use one View, closed after the last of
 * them. Each view costs the storage a layer of its index, so a client with many connections must not cost many.
 */
import type { GroupStore, View } from '../storage/index.js';

interface Shared {
  readonly view: Promise<View>;
  users: number;
}

export interface HeldView {
  readonly view: View;
  /** Harmless twice. */
  release(): void;
}

export class SharedViews {
  readonly #byNumber = new Map<number, Shared>();
  readonly #closeFailed: (cause: unknown) => void;

  constructor(closeFailed: (cause: unknown) => void) {
    this.#closeFailed = closeFailed;
  }

  /** The point `at`, or the newest consistent one. Throws what GroupStore.openView throws. */
  async hold(store: GroupStore, at: number | null): Promise<HeldView> {
    const number = at ?? store.progress.consistentNumber;
    let shared = number === null ? undefined : this.#byNumber.get(number);
    if (shared === undefined || number === null) {
      shared = { view: store.openView(number === null ? {} : { at: number }), users: 0 };
      if (number !== null) this.#keep(number, shared);
    }
    const held = shared;
    held.users += 1;
    try {
      const view = await held.view;
      let released = false;
      return {
        view,
        release: () => {
          if (released) return;
          released = true;
          this.#letGo(number, held, view);
        },
      };
    } catch (cause) {
      held.users -= 1;
      this.#remove(number, held);
      throw cause;
    }
  }

  #keep(number: number, shared: Shared): void {
    this.#byNumber.set(number, shared);
    shared.view.then(
      // A point that was taken away is of no use to the next client.
      (view) => view.onExpired(() => this.#remove(number, shared)),
      () => this.#remove(number, shared),
    );
  }

  #letGo(number: number | null, shared: Shared, view: View): void {
    shared.users -= 1;
    if (shared.users > 0) return;
    this.#remove(number, shared);
    view.close().catch(this.#closeFailed);
  }

  #remove(number: number | null, shared: Shared): void {
    if (number !== null && this.#byNumber.get(number) === shared) this.#byNumber.delete(number);
  }
}
