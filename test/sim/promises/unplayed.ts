/**
 * Upstreams that may have lost what was not flushed, and have not been given it again (REPLAY): until then nobody reads them, and
 * what the agent alone knows goes with the agent. Volume by volume: each has connections of its own.
 */
import { type LogFields } from '@rephub/platform';
import { type World } from '../world.js';
import { type Crash } from './checker.js';

export class Unplayed {
  readonly #world: World;
  /** True: the cache is known to be lost. False: a connection was, the cache may be there. */
  readonly #volumes = new Map<number, boolean>();

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { volume }: LogFields): void {
    const index = this.#world.setup.volumes.findIndex(({ name }) => name === volume);
    // The last answers of a server that was killed may come after its end.
    if (event === 'upstream-back' && this.#world.upstream.up !== null) this.#volumes.delete(index);
    if (event !== 'upstream-lost' && event !== 'upstream-reopened') return;
    this.#volumes.set(index, this.#volumes.get(index) ?? false);
  }

  crashed({ who, fate }: Crash): void {
    // What a new process finds is what there is.
    if (who === 'agent') this.#volumes.clear();
    if (who !== 'upstream' || !this.isPlayedLater) return;
    for (const [index, { upstream }] of this.#world.setup.volumes.entries()) {
      if (upstream === 'nbd') this.#volumes.set(index, fate !== 'keep' || (this.#volumes.get(index) ?? false));
    }
  }

  /** Whether what is lost now is played again: only a process that is there knows what to play. */
  get isPlayedLater(): boolean {
    const { agent } = this.#world;
    return agent.up !== null || agent.isEnding;
  }

  /** Its content may not be what guests will see. */
  maySeeOld(volume: number): boolean {
    return this.#volumes.has(volume);
  }

  /** What was not flushed is gone, but for what the agent knows. */
  hasLost(volume: number): boolean {
    return this.#volumes.get(volume) ?? false;
  }
}
