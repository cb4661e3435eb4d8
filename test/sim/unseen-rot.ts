/**
 * What has rotted in the journal of a hub that runs, and that one has not found yet: until it has, what points and tests read is
 * taken as the disk gives it. A start reads all that is not folded, and so does a group that is opened anew by itself.
 */
import { hubRots } from './deaths.js';
import { type GroupStore } from './hub-types.js';
import { type World } from './world.js';

export class UnseenRot {
  readonly #world: World;
  /** Read from what was good then. */
  #store: GroupStore | null = null;
  /** Of the hub's process then. */
  #starts = 0;

  constructor(world: World) {
    this.#world = world;
  }

  begins(store: GroupStore): void {
    this.#store = store;
    this.#starts = this.#world.hub.starts;
    this.#world.excuses.hubRotUnseen = true;
    hubRots(this.#world);
  }

  /** Another store has read it: what has rotted is named from here on, and what was called durable since may be behind it. */
  look(): void {
    const { store } = this.#world;
    if (this.#store === null || store === null || store === this.#store) return;
    if (this.#world.hub.starts === this.#starts) this.#world.coverage.happened('opened-anew');
    this.isFound();
  }

  /** The next to read it is a start. */
  isFound(): void {
    if (this.#store === null) return;
    this.#store = null;
    this.#world.excuses.hubRotUnseen = false;
    hubRots(this.#world);
  }
}
