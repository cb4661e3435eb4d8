/** What guests, operators and strangers do. */
import { SeededRandomness as Seeded } from '@rephub/platform/sim';
import { meetForeignAgent } from '../foreign-agent.js';
import { enrolAnew, orderResync } from '../operator.js';
import { BURST_REQUESTS, WIDE_BLOCKS } from '../script.js';
import { type StepKind } from '../step-kinds.js';
import { runTestBranch } from '../test-branches.js';
import { type Act } from './act.js';

export const PEOPLE = {
  burst: (world, random) => {
    const volume = random.below(world.volumeCount);
    const blocks = world.blocksOf(volume);
    const isScattered = blocks === WIDE_BLOCKS && random.chance(0.7);
    const span = isScattered ? blocks - 1 : ([8, 32, 64, 256][random.below(4)] ?? 32);
    const firstBlock = random.below(blocks - span);
    world.lastBurst = { volume, firstBlock };
    const clients = 1 + random.below(3);
    for (let client = 0; client < clients; client += 1) {
      const requests = Math.ceil(BURST_REQUESTS / clients) + random.below(4);
      const gapMs = [0, 0, 2, 10, 40][random.below(5)] ?? 0;
      const { rareFlushes } = world.setup;
      const burst = { rareFlushes, volume, client, requests, depth: 1 + random.below(12), gapMs, firstBlock, span };
      void world.guests.burst(burst, new Seeded(random.below(2 ** 31)));
    }
    return true;
  },
  'drop-guest': (world, random) => world.guests.forget(random.below(3)) > 0,
  'open-test': (world, random, _backups, acted) => {
    void runTestBranch(world, random, acted);
    return false;
  },
  resync: (world, random) => {
    const isFull = random.chance(0.3);
    return orderResync(world, isFull, !isFull && random.chance());
  },
  verify: (world) => {
    if (world.agent.up === null || world.agent.isStopped) return false;
    world.trace.add(`verification ${world.agent.up.verify().id}`);
    return true;
  },
  'change-mode': (world, random) => {
    const mode = (['async', 'semi-sync', 'sync'] as const)[random.below(3)] ?? 'async';
    world.answersWait = true;
    const { up, isStopped } = world.agent;
    if (up === null || isStopped) return false;
    const isAnother = up.status().mode !== mode;
    up.setMode(mode);
    return isAnother;
  },
  'lose-agent': (world) => {
    // A new agent would take for its own whatever disk it finds.
    if (world.isAnotherDisk) return false;
    void enrolAnew(world);
    return true;
  },
  'foreign-agent': (world, random, _backups, acted) => {
    void meetForeignAgent(world, random, acted);
    return false;
  },
} as const satisfies Partial<Record<StepKind, Act>>;
