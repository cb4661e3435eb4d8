/** Seeding of a group, as its operator's word: one at a time, never beside an agent, and known to be under way. */
import { ConfigFault, type FileSystem } from '@rephub/platform';
import type { Hello } from '@rephub/protocol';
import type { Tell } from '../events/events.js';
import { type GroupStore, noSeedFile, type Seed } from '../storage/index.js';
import { seedConflict } from './welcome.js';

export class Seeding {
  #underWay = 0;

  /** An image is being copied: that may take hours. */
  get isUnderWay(): boolean {
    return this.#underWay > 0;
  }

  /** `serially` runs the work after what else is under way in the group. Throws `agent-connected`, `seed-differs`, and what GroupStore.seed throws. */
  async seed(
    volume: string,
    path: string,
    group: {
      readonly name: string;
      readonly files: FileSystem;
      readonly tell: Tell;
      readonly serially: (work: () => Promise<Seed>) => Promise<Seed>;
      readonly hasSession: () => boolean;
      /** What an agent of the group has said of its volumes, though it has begun nothing; null when none has. */
      readonly announced: () => Hello['volumes'] | null;
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
        const status = await group.files.status(path);
        if (status === null) throw noSeedFile(path);
        const announced = group.announced();
        const conflict = announced === null ? null : seedConflict([{ volume, sizeBytes: status.sizeBytes }], announced);
        if (conflict !== null) throw new ConfigFault('seed-differs', `${path}: ${conflict}`);
        const seed = await (await group.store()).seed(volume, path);
        group.tell('info', 'seeded', `volume ${volume} was seeded with ${seed.sizeBytes} bytes of ${path}`);
        return seed;
      });
    } finally {
      this.#underWay -= 1;
    }
  }
}
