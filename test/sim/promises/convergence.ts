/** When all is healed: replica and upstream are equal. The promise that a difference breaks is told by what was last asked there. */
import { UNREADABLE } from '../block-content.js';
import { type World } from '../world.js';
import { type Checker, type Look } from './checker.js';
import { type PromiseId } from './index.js';

export class Convergence implements Checker {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  converged({ number, shown }: Look, upstream: readonly Int32Array[]): void {
    const world = this.#world;
    const seen = new Set<PromiseId>();
    for (const [volume, contents] of shown.entries()) {
      const blocks = contents?.length ?? 0;
      world.check('SIZE', blocks === world.blocksOf(volume), () => {
        return `all is healed, volume ${volume} has ${blocks} blocks at ${number}, upstream has ${world.blocksOf(volume)}`;
      });
      for (const [block, content] of (contents ?? []).entries()) {
        const promise = this.#promiseOf(volume, block);
        seen.add(promise);
        const holds = upstream[volume]?.[block] ?? 0;
        if (content === holds || (content === UNREADABLE && world.excuses.unreadable)) continue;
        if (world.history.wasGivenUp(volume, block, content)) continue;
        const asked = world.history.tell(volume, block);
        world.check(promise, false, () => {
          return [
            `all is healed and quiet, block ${volume}:${block} at ${number} shows ${world.contents.describe(content)},`,
            `upstream holds ${world.contents.describe(holds)}; asked: ${asked}`,
          ].join(' ');
        });
        return;
      }
    }
    for (const promise of seen) world.check(promise, true, () => '');
  }

  #promiseOf(volume: number, block: number): PromiseId {
    const last = this.#world.history.last(volume, block);
    if (last === null) return 'SUPERSET';
    if (last.kind === 'trim') return 'TRIM';
    return last.ok ? 'ORD' : 'FAILWR';
  }
}
