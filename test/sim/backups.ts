/** Old copies of the agent's state and of the hub's data, to be put back later: the world's worst habit. */
import { type SimFiles } from '@rephub/platform/sim';
import { type World } from './world.js';

type Saved = ReturnType<SimFiles['snapshot']>;

export class Backups {
  #agent: { readonly saved: Saved; readonly starts: number } | null = null;
  #hub: Saved | null = null;

  saveAgent(world: World): void {
    this.#agent = { saved: world.agent.files.snapshot('/state'), starts: world.agent.starts };
  }

  /**
   * A copy of an earlier session. One of the current session, put back after a crash, looks like the crash: docs/design.md,
   * "Not seen by the table".
   */
  hasAgent(world: World): boolean {
    return this.#agent !== null && this.#agent.starts < world.agent.starts;
  }

  restoreAgent(world: World): void {
    if (this.#agent !== null) world.agent.files.restore('/state', this.#agent.saved);
    world.excuses.stateDamaged = true;
  }

  saveHub(world: World): void {
    if (world.store !== null) this.#hub = world.hub.files.snapshot('/data');
  }

  get hasHub(): boolean {
    return this.#hub !== null;
  }

  restoreHub(world: World): void {
    if (this.#hub === null) return;
    world.hub.files.restore('/data', this.#hub);
    world.excuses.hubCameBackOlder += 1;
    world.excuses.exposureUnknown = true;
    world.excuses.dataForgotten += 1;
  }
}
