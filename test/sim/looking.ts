/** Reads the whole replica as the hub serves it, beside what the records on the wire make of it. */
import { viewContents } from './disk-contents.js';
import { asError } from '@rephub/platform';
import { type View } from './hub-types.js';
import { type Look } from './promises/index.js';
import { type World } from './world.js';

const MANY_BLOCKS = 8192;

/** Null when there is no point, or the hub went away meanwhile. Moves the time on. */
export async function lookAtReplica(world: World): Promise<Look | null> {
  const { store } = world;
  return store === null ? null : await world.settle(readLatest(world), 20_000);
}

async function readLatest(world: World): Promise<Look | null> {
  const { store } = world;
  if (store === null || store.progress.consistentNumber === null) return null;
  const { lastNumber, lastChecksum } = store.state;
  const view = await store.openView();
  const look = await read(world, view, world.records.foldAt(view.number, lastNumber, lastChecksum));
  await view.close();
  return look;
}

async function read(world: World, view: View, fold: readonly Int32Array[] | null): Promise<Look> {
  const shown: (Int32Array | null)[] = [];
  for (const { index } of view.volumes) shown[index] = await viewContents(world, view, index);
  // A volume that the point does not have yet lacks nothing.
  const known = fold?.map((contents, index) => (shown[index] === undefined ? new Int32Array() : contents)) ?? null;
  return { number: view.number, shown, fold: known };
}

/**
 * Looks again and again while the world goes on, and now and then keeps a point open for long, to read it a second
 * time (PIT).
 */
export class Looker {
  readonly #world: World;
  #life = -1;
  #busy = false;
  #looks = 0;
  #turn = 0;
  /** A look reads everything: every third time is often enough, and less often where that is much. */
  readonly #every: number;

  constructor(world: World) {
    this.#world = world;
    const blocks = world.setup.volumes.reduce((sum, volume) => sum + volume.blocks, 0);
    this.#every = blocks > MANY_BLOCKS ? 9 : 3;
  }

  look(): void {
    const { hub, store } = this.#world;
    if (store === null || store.progress.consistentNumber === null || hub.isStopped) return;
    if (this.#busy && this.#life === hub.starts) return;
    this.#turn += 1;
    if (this.#turn % this.#every !== 1) return;
    this.#life = hub.starts;
    this.#busy = true;
    this.#looks += 1;
    const keep = this.#looks % 6 === 0;
    this.#look(hub.starts, keep)
      .catch((thrown: unknown) => this.#world.trace.add(`look: ${asError(thrown).message}`))
      .finally(() => {
        if (this.#life === hub.starts) this.#busy = false;
      })
      .catch(() => undefined);
  }

  async #look(life: number, keep: boolean): Promise<void> {
    const world = this.#world;
    const { store, hub } = world;
    if (store === null) return;
    const { lastNumber, lastChecksum } = store.state;
    const view = await store.openView();
    const gone = { expired: false };
    view.onExpired(() => {
      gone.expired = true;
    });
    const fold = world.records.foldAt(view.number, lastNumber, lastChecksum);
    for (let time = 0; time < (keep ? 3 : 1); time += 1) {
      if (time > 0) {
        await new Promise<void>((resolve) => {
          world.clock.after(1500, resolve);
        });
      }
      const look = await read(world, view, fold);
      if (gone.expired || hub.up === null || hub.starts !== life || world.store !== store) return;
      // What a point reads is taken as the disk gives it.
      if (world.excuses.hubRotUnseen) return;
      for (const checker of world.checkers) checker.looked?.(look);
    }
    await view.close();
  }
}
