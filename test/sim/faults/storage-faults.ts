/** What happens to the files of agent and hub: no room, operations that fail, rot, backups put back, loss. */
import { type SeededRandomness } from '@rephub/platform/sim';
import { BLOCK_BYTES } from '../block-content.js';
import { agentDies, downMs, hubDies, hubRots, later } from '../deaths.js';
import { type StepKind } from '../step-kinds.js';
import { type World } from '../world.js';
import { type Act } from './act.js';

/** A hub whose journal, or whose folding, has failed says so, and an operator starts it again. */
function restartFailedHub(world: World, random: SeededRandomness): void {
  const { store, group } = world;
  const hasFailed = store?.progress.stalled === 'journal-failed' || store?.state.applyFailed !== undefined;
  if (hasFailed || (group?.trouble ?? null) !== null) hubDies(world, 'keep', random);
}

export const STORAGE_FAULTS = {
  // No room; or there is, and no file handle for what is to be made.
  'hub-disk-full': (world, random, _backups, acted) => {
    const lacking = random.below(300_000);
    const forMs = 4000 + 2 * downMs(random);
    if (random.chance(0.3)) {
      const path = /\/spare-\d+$|\.raw$/;
      const fault = { operation: 'open', path, times: Infinity, fault: 'too-many-files' } as const;
      const lack = world.inject('hub', fault, acted);
      later(world, forMs, () => {
        lack.remove();
      });
      return false;
    }
    world.hub.files.setCapacity(world.hub.files.usedBytes - lacking);
    later(world, forMs, () => world.hub.files.setCapacity(2 ** 40));
    return true;
  },
  'hub-sync-fails': (world, random, _backups, acted) => {
    const path = random.chance(0.8) ? /\.seg$/ : /base\//;
    world.inject('hub', { operation: 'sync', path, fault: 'io-error', skip: random.below(6) }, acted);
    later(world, 4000 + downMs(random), () => restartFailedHub(world, random));
    return false;
  },
  // The journal, an image that is folded into, or what tells how far it is: on each it means something else.
  'hub-writes-fail': (world, random, _backups, acted) => {
    const fault = random.chance(0.7) ? 'io-error' : 'disk-full';
    const path = random.chance() ? /\.seg$/ : /^\/data\/groups\//;
    const [skip, times] = [random.below(12), 1 + random.below(3)];
    world.inject('hub', { operation: 'write', path, fault, skip, times }, acted);
    later(world, 4000 + downMs(random), () => restartFailedHub(world, random));
    return false;
  },
  'hub-reads-fail': (world, random, _backups, acted) => {
    hubDies(world, 'keep', random);
    // What the disk does not give then is named as what has rotted is, and nothing of it is cut.
    hubRots(world);
    const path = /\.seg$|\/applied$|\/durable$|\/decisions\.log$/;
    const failing = {
      operation: 'read',
      path,
      fault: 'io-error',
      skip: random.below(8),
      times: 1 + random.below(2),
    } as const;
    const fault = world.inject('hub', failing, acted);
    const lookAgain = (): void => {
      later(world, 100, () => {
        if (world.hub.up === null) {
          lookAgain();
          return;
        }
        fault.remove();
        // An operator sees that it stays closed.
        if ((world.group?.trouble ?? null) !== null) later(world, downMs(random), () => hubDies(world, 'keep', random));
      });
    };
    lookAgain();
    return false;
  },
  'agent-sync-fails': (world, random, _backups, acted) => {
    world.excuses.stateDamaged = true;
    world.inject('agent', { operation: 'sync', path: /^\/state\//, fault: 'io-error', skip: random.below(8) }, acted);
    return false;
  },
  'agent-write-fails': (world, random, _backups, acted) => {
    world.excuses.stateDamaged = true;
    const fault = random.chance() ? 'disk-full' : 'io-error';
    const [skip, times] = [random.below(8), 1 + random.below(3)];
    world.inject('agent', { operation: 'write', path: /^\/state\//, fault, skip, times }, acted);
    return false;
  },
  'rot-state': (world, random) => {
    // An agent that has forgotten its disk's size would take any for its own.
    if (world.isAnotherDisk) return false;
    world.excuses.stateDamaged = true;
    agentDies(world, 'keep', random);
    const maps = world.setup.volumes.map(({ name }) => `${name}.map`);
    // With both copies of the identity's newest image it is as if that had never been stored.
    const names = world.identityRotted === world.agent.starts ? ['hot.log', ...maps] : ['hot.log', 'identity', ...maps];
    const name = names[random.below(names.length)] ?? 'hot.log';
    if (name === 'identity') world.identityRotted = world.agent.starts;
    const path = `/state/${name}`;
    const size = world.agent.files.look(path, Buffer.alloc(1 << 20), 0);
    // One block goes bad.
    const first = size > 0 ? random.below(size / BLOCK_BYTES) * BLOCK_BYTES : 0;
    for (let bit = random.below(3); bit >= 0 && size > 0; bit -= 1) {
      world.agent.files.rot(path, first + random.below(Math.min(BLOCK_BYTES, size - first)), random.below(8));
    }
    return size > 0;
  },
  'rot-hub': (world, random) => {
    hubDies(world, 'keep', random);
    hubRots(world);
    const { files } = world.hub;
    const paths = files.pathsBelow('/data').filter((path) => /\.seg$|\/applied$|\/durable$/.test(path));
    const path = paths[random.below(Math.max(1, paths.length))];
    if (path === undefined) return false;
    const size = files.storedBytes(path);
    const first = size > 0 ? random.below(size / BLOCK_BYTES) * BLOCK_BYTES : 0;
    for (let bit = random.below(3); bit >= 0 && size > 0; bit -= 1) {
      files.rot(path, first + random.below(Math.min(BLOCK_BYTES, size - first)), random.below(8));
    }
    for (const checker of world.checkers) checker.hubRotted?.();
    return size > 0;
  },
  // Nobody looks at it before it is folded, or the hub is started again.
  'rot-running-hub': (world, random) => {
    const { store, hub } = world;
    const line = store?.state.line?.id;
    if (store === null || line === undefined || hub.isStopped) return false;
    const { files } = hub;
    const paths = files.pathsBelow(`/data/groups/vm1/lines/${line}`).filter((path) => path.endsWith('.seg'));
    const path = paths[random.below(Math.max(1, paths.length))];
    const size = path === undefined ? 0 : files.storedBytes(path);
    if (path === undefined || size === 0) return false;
    world.unseenRot.begins(store);
    files.rot(path, random.below(size), random.below(8));
    return true;
  },
  'backup-agent': (world, _random, backups) => backups.saveAgent(world),
  'restore-agent': (world, random, backups) => {
    if (!backups.hasAgent(world)) return false;
    agentDies(world, 'keep', random);
    backups.restoreAgent(world);
    return true;
  },
  'backup-hub': (world, _random, backups) => backups.saveHub(world),
  'restore-hub': (world, random, backups) => {
    if (!backups.hasHub) return false;
    hubDies(world, 'keep', random);
    backups.restoreHub(world);
    return true;
  },
  'lose-hub': (world, random) => {
    // A group that nobody owns is taken by whoever comes first, and a stranger is as good as any.
    if (world.stranger !== null) return false;
    const isLost = world.store !== null;
    hubDies(world, 'keep', random);
    world.forgetGroup();
    const { files } = world.hub;
    // Another crash may come before all is gone.
    const gone = files.removeTree('/data').then(() => files.syncDirectory('/'));
    gone.catch((thrown: unknown) => world.trace.add(`lose-hub: ${String(thrown)}`));
    return isLost;
  },
  'forget-group': (world) => {
    const { hubServer, group } = world;
    if (hubServer === null || group === null || world.hub.isStopped || world.stranger !== null) return false;
    world.forgetGroup();
    hubServer.hub.forget(group.name).catch((thrown: unknown) => world.trace.add(`forget: ${String(thrown)}`));
    return true;
  },
} as const satisfies Partial<Record<StepKind, Act>>;
