/**
 * REPLAY: what upstream has lost with its cache, and the agent has kept, is there again in the moment in which requests pass
 * on: newest content where writes overlap, unknown ones included.
 */
import { type LogFields } from '@rephub/platform';
import { upstreamContents } from '../disk-contents.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';
import { Unplayed } from './unplayed.js';

export class Replay implements Checker {
  readonly #world: World;
  readonly #unplayed: Unplayed;

  constructor(world: World) {
    this.#world = world;
    this.#unplayed = new Unplayed(world);
  }

  crashed(crash: Crash): void {
    this.#unplayed.crashed(crash);
  }

  logged(event: string, fields: LogFields): void {
    const { setup, upstream } = this.#world;
    const index = setup.volumes.findIndex(({ name }) => name === fields['volume']);
    // Before it is told that it is back.
    const wasLost = this.#unplayed.hasLost(index);
    this.#unplayed.logged(event, fields);
    // Lost once more, it is played again once more.
    if (event === 'upstream-back' && wasLost && upstream.up !== null) this.#played(index);
  }

  #played(volume: number): void {
    const world = this.#world;
    const moment = world.history.tick();
    for (const [block, content] of (upstreamContents(world)[volume] ?? []).entries()) {
      if (world.history.allows(volume, block, content, moment)) continue;
      const asked = world.history.tell(volume, block);
      world.check('REPLAY', false, () => {
        return `all is played again, and block ${volume}:${block} holds ${world.contents.describe(content)}; asked: ${asked}`;
      });
      return;
    }
    world.check('REPLAY', true, () => '');
  }
}
