/** What happens to the disks behind the agent: another disk, larger ones, errors, slowness. */
import { type SeededRandomness } from '@rephub/platform/sim';
import { BLOCK_BYTES } from '../block-content.js';
import { agentDies, downMs, later, upstreamDies } from '../deaths.js';
import { orderResync } from '../operator.js';
import { TRUE_DISK, UPSTREAM } from '../processes.js';
import { type StepKind } from '../step-kinds.js';
import { type World } from '../world.js';
import { type Act } from './act.js';

/** Mostly where the guest is at work: elsewhere a fault may wait for long. */
function onDisk(world: World, random: SeededRandomness, act: (name: string, firstBlock: number) => void): void {
  const { lastBurst, setup, disks } = world;
  const busy = setup.volumes[lastBurst?.volume ?? 0]?.name ?? '';
  if (lastBurst !== null && disks.has(busy) && random.chance(0.8)) {
    act(busy, lastBurst.firstBlock);
    return;
  }
  const names = [...disks.keys()];
  const name = names[random.below(Math.max(1, names.length))];
  if (name !== undefined) act(name, random.below((disks.get(name)?.sizeBytes ?? 0) / BLOCK_BYTES));
}

/** A volume is made larger, with the agent there or not: it may be noticed late, and never lost again. */
function grow(world: World, random: SeededRandomness): boolean {
  const volume = random.below(world.volumeCount);
  const left = (world.setup.volumes[volume]?.largestBlocks ?? 0) - world.blocksOf(volume);
  if (left <= 0) return false;
  if (random.chance(0.4)) agentDies(world, 'keep', random);
  if (world.agent.up === null && world.agent.starts > 0) world.coverage.happened('grown-while-down');
  world.grow(volume, world.blocksOf(volume) + 1 + random.below(left));
  // An NBD server is often started anew for it.
  if (random.chance()) upstreamDies(world, 'keep', random);
  return true;
}

/** The upstream shows itself as something else, for a while. */
function anotherDisk(world: World, random: SeededRandomness, presented: World['upstream']['presented']): boolean {
  // An agent that is only starting knows no other disk yet, and would take this one for its own.
  if (world.disks.size === 0 || (world.agent.up === null && !world.knowsItsDisks)) return false;
  world.excuses.requestsWait = true;
  world.isDiskChanging = true;
  world.crashUpstream('keep');
  later(world, 200, () => {
    // Another fault may have brought it back meanwhile, as it is.
    world.excuses.requestsWait = true;
    world.crashUpstream('keep');
    world.upstream.presented = presented;
    world.isDiskChanging = false;
    world.upstream.start();
  });
  later(world, 1000 + downMs(random), () => {
    world.upstream.presented = TRUE_DISK;
    world.crashUpstream('keep');
    later(world, 100, () => {
      world.upstream.start();
      world.clock.after(3000, () => world.calm());
    });
  });
  return true;
}

function rangeFault(what: 'write-error' | 'read-error' | 'flush-error', lastingMs: number): Act {
  return (world, random, _backups, acted) => {
    // What a repetition may cure is repeated for as long as it takes; want of room goes to the guest at once.
    const kind = what === 'write-error' && random.chance() ? 'no-space' : what;
    onDisk(world, random, (name, firstBlock) => {
      const disk = world.disks.get(name);
      world.excuses.guestErrors = true;
      world.excuses.requestsWait = true;
      if (kind === 'read-error') world.excuses.unreadable = true;
      const first = firstBlock * BLOCK_BYTES;
      const times = kind === 'flush-error' ? 1 : 1 + random.below(40);
      const to = kind === 'read-error' ? first + BLOCK_BYTES * (1 + random.below(8)) : first + 256 * BLOCK_BYTES;
      disk?.fail(
        kind,
        kind === 'flush-error' ? 0 : first,
        kind === 'flush-error' ? 1 : to,
        kind === 'read-error' ? Infinity : times,
        acted,
      );
      // Somebody must come to read it, and the guest is elsewhere most of the time.
      if (kind === 'read-error' && random.chance(0.7)) orderResync(world, true, false);
      later(world, lastingMs * random.fraction(), () => {
        disk?.heal();
        world.clock.after(3000, () => world.calm());
      });
    });
    return false;
  };
}

export const UPSTREAM_FAULTS = {
  'cut-upstream': (world) => {
    world.excuses.requestsWait = true;
    const links = world.network.links(UPSTREAM);
    for (const link of links) link.cut();
    world.clock.after(3000, () => world.calm());
    return links.length > 0;
  },
  'upstream-other-size': (world, random) => {
    const sizeBytes = 384 * BLOCK_BYTES - 512 * (1 + random.below(9));
    const isShown = anotherDisk(world, random, { sizeBytes, readOnly: false });
    // An agent that starts meanwhile and knows its disk refuses this one as well.
    if (random.chance(0.4) && world.knowsItsDisks) later(world, 150, () => void agentDies(world, 'keep', random));
    return isShown;
  },
  'upstream-read-only': (world, random) => anotherDisk(world, random, { sizeBytes: null, readOnly: true }),
  'upstream-write-errors': rangeFault('write-error', 4000),
  'upstream-flush-error': rangeFault('flush-error', 4000),
  'upstream-unreadable': rangeFault('read-error', 20_000),
  'upstream-slow': (world, random) => {
    world.excuses.requestsWait = true;
    for (const disk of world.disks.values()) disk.slowness = 2 + random.below(12);
    later(world, downMs(random), () => {
      for (const disk of world.disks.values()) disk.slowness = 1;
      world.clock.after(2000, () => world.calm());
    });
    return world.disks.size > 0;
  },
  'grow-upstream': grow,
} as const satisfies Partial<Record<StepKind, Act>>;
