/** Seeding of a group, as its operator's word: one at a time, never beside an agent, and known to be under way. */
import { ConfigFault, type FileSystem } from '@rephub/platform';
import type { Tell } from '../hub/events.js';
import { type GroupStore, noSeedFile, type Seed } from '../storage/index.js';

export class Seeding {
  #underWay = 0;

  /** An image is being copied: that may take hours. */
  get isUnderWay(): boolean {
    return this.#underWay > 0;
  }

  /** `serially` runs the work after what else is under way in the group. Throws `agent-connected`, and what GroupStore.seed throws. */
  async seed(
    volume: string,
    path: string,
    group: {
      readonly name: string;
      readonly files: FileSystem;
      readonly tell: Tell;
      readonly serially: (work: () => Promise<Seed>) => Promise<Seed>;
      readonly hasSession: () => boolean;
      readonly store: () => Promise<GroupStore>;
    },
  ): Promise<Seed> {
    this.#underWay += 1;
    try {
      return await group.serially(async () => {
        if (group.hasSession()) {
          const said = `an agent of group ${group.name} is connected: its first sync has begun`;
          throw new ConfigFault('agent-connected', said);
        }
        // A mistaken path makes no group.
        if ((await group.files.status(path)) === null) throw noSeedFile(path);
        const seed = await (await group.store()).seed(volume, path);
        group.tell('info', 'seeded', `volume ${volume} was seeded with ${seed.sizeBytes} bytes of ${path}`);
        return seed;
      });
    } finally {
      this.#underWay -= 1;
    }
  }
}
