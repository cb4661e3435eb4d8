/** Old copies of the agent's state and of the hub's data, to be put back later: the world's worst habit. */
import { type SimFiles } from '@rephub/platform/sim';
import { type World } from './world.js';

type Saved = ReturnType<SimFiles['snapshot']>;

/** `session`: of the agent's, at that time; for the hub the last that it had had. */
interface Backup {
  readonly saved: Saved;
  readonly session: number;
}

export class Backups {
  #agent: Backup | null = null;
  #hub: Backup | null = null;
  /** The session of the agent's copy that was put back. */
  #putBack = 0;

  /** False: there was nothing to copy. */
  saveAgent(world: World): boolean {
    const session = world.agent.up?.status().tracking.session;
    if (session === undefined) return false;
    this.#agent = { saved: world.agent.files.snapshot('/state'), session };
    return true;
  }

  /**
   * A copy from before the last session that the hub has had. One of that session, put back, looks like a crash of it,
   * whatever came after: docs/design.md, "Not seen by the table".
   */
  hasAgent(world: World): boolean {
    return this.#agent !== null && this.#agent.session < lastSession(world);
  }

  restoreAgent(world: World): void {
    if (this.#agent === null) return;
    world.agent.files.restore('/state', this.#agent.saved);
    this.#putBack = this.#agent.session;
    world.excuses.stateDamaged = true;
  }

  saveHub(world: World): boolean {
    if (world.store === null || world.excuses.hubRotUnseen) return false;
    this.#hub = { saved: world.hub.files.snapshot('/data'), session: lastSession(world) };
    return true;
  }

  /** Nor may the hub forget the session by which an old copy of the agent's state is known to be one. */
  get hasHub(): boolean {
    return this.#hub !== null && (this.#putBack === 0 || this.#putBack < this.#hub.session);
  }

  restoreHub(world: World): void {
    if (this.#hub === null) return;
    world.hub.files.restore('/data', this.#hub.saved);
    world.excuses.hubCameBackOlder += 1;
    // Its base images are other files than those that it wrote.
    world.excuses.hubRotted = true;
    world.excuses.exposureUnknown = true;
    world.excuses.dataForgotten += 1;
  }
}

function lastSession(world: World): number {
  return world.store?.state.owner?.session ?? 0;
}
