/**
 * What each kind of step does to the world. Details are drawn from the step's own seed.
 *
 * Always holds: whatever a step takes away it gives back after a while, so that one fault does not hide all later ones; a
 * step counts when it has acted, not when it found nothing to act upon.
 */
import { type SeededRandomness } from '@rephub/platform/sim';
import { BURST_REQUESTS, type Step, WIDE_BLOCKS } from './script.js';
import { type StepKind } from './step-kinds.js';
import { BLOCK_BYTES } from './block-content.js';
import { runTestBranch } from './test-branches.js';
import { type World } from './world.js';
import { agentDies, downMs, fate, hubDies, hubRots, later, silentMs, upstreamDies } from './deaths.js';
import { LINK, TRUE_DISK, UPSTREAM } from './processes.js';
import { type Backups } from './backups.js';
import { enrolAnew, startAgent } from './operator.js';
import { meetForeignAgent } from './foreign-agent.js';
import { SeededRandomness as Seeded } from '@rephub/platform/sim';

/** True: it has acted. What acts only when somebody meets it tells so by `acted`, and returns false. */
type Act = (world: World, random: SeededRandomness, backups: Backups, acted: () => void) => boolean;

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
      if (kind === 'read-error' && random.chance(0.7)) resync(world, true, false);
      later(world, lastingMs * random.fraction(), () => {
        disk?.heal();
        world.clock.after(3000, () => world.calm());
      });
    });
    return false;
  };
}

function resync({ agent, trace }: World, isFull: boolean, isCompared: boolean): boolean {
  agent.up?.resync(isFull, isCompared).catch((thrown: unknown) => trace.add(`resync: ${String(thrown)}`));
  return agent.up !== null && !agent.isStopped;
}

/** A process is stopped, and goes on. */
function pause(which: 'agent' | 'hub' | 'upstream'): Act {
  return (world, random) => {
    if (which !== 'hub') world.excuses.requestsWait = true;
    const isRunning = world[which].isThere && !world[which].isStopped;
    world[which].pause();
    later(world, 200 + random.fraction() ** 2 * 12_000, () => {
      world[which].goOn();
      if (which !== 'hub') world.clock.after(3000, () => world.calm());
    });
    return isRunning;
  };
}

const ACTS: Record<StepKind, Act> = {
  burst: (world, random) => {
    const volume = random.below(world.volumeCount);
    const blocks = world.blocksOf(volume);
    const isScattered = blocks === WIDE_BLOCKS && random.chance(0.7);
    const span = isScattered ? blocks - 1 : ([8, 32, 64, 256][random.below(4)] ?? 32);
    const firstBlock = random.below(blocks - span);
    world.lastBurst = { volume, firstBlock };
    const clients = 1 + random.below(3);
    for (let client = 0; client < clients; client += 1) {
      const requests = Math.ceil(BURST_REQUESTS / clients) + random.below(10);
      const gapMs = [0, 0, 2, 10, 40][random.below(5)] ?? 0;
      const { rareFlushes } = world.setup;
      const burst = { rareFlushes, volume, client, requests, depth: 1 + random.below(12), gapMs, firstBlock, span };
      void world.guests.burst(burst, new Seeded(random.below(2 ** 31)));
    }
    return true;
  },
  'cut-link': (world) => {
    const links = world.network.links(LINK);
    for (const link of links) link.cut();
    return links.length > 0;
  },
  'cut-link-at-byte': (world, random) => {
    const direction = random.chance(0.7) ? 'to-server' : 'to-client';
    const links = world.network.links(LINK);
    for (const link of links) link.cutAfter(direction, link.deliveredBytes(direction) + random.below(20_000));
    return links.length > 0;
  },
  'half-open': (world, random) => {
    const links = world.network.links(LINK);
    for (const link of links) link.freeze();
    // What was held back may still come when both sides have long gone on.
    later(world, silentMs(random), () => {
      for (const link of links) link.thaw();
    });
    return links.length > 0;
  },
  // One side hears nothing, and is heard.
  'one-way': (world, random) => {
    const direction = random.chance() ? 'to-server' : 'to-client';
    const links = world.network.links(LINK);
    for (const link of links) link.freeze(direction);
    later(world, silentMs(random), () => {
      for (const link of links) link.thaw(direction);
    });
    return links.length > 0;
  },
  // The agent comes back while the hub still has its old connection, or the hub has done with one that the agent believes in.
  'delayed-reset': (world, random) => {
    const side = random.chance(0.7) ? 'client' : 'server';
    const links = world.network.links(LINK);
    for (const link of links) link.reset(side, silentMs(random));
    return links.length > 0;
  },
  'silence-hub': (world, random) => {
    world.network.setSilent(LINK, true);
    later(world, silentMs(random), () => {
      world.network.setSilent(LINK, false);
    });
    return true;
  },
  'slow-link': (world, random) => {
    const conditions = world.network.conditionsOf(LINK);
    conditions.bytesPerMs = 20 + random.below(400);
    conditions.latencyMs = world.setup.linkLatencyMs + random.below(80);
    const lastingMs = 1000 + downMs(random);
    later(world, lastingMs, () => world.calmLink());
    return true;
  },
  'drip-link': (world, random) => {
    const conditions = world.network.conditionsOf(LINK);
    const pieces = new Seeded(random.below(2 ** 31));
    conditions.fragmentBytes = () => 1 + pieces.below(900);
    const lastingMs = 300 + downMs(random) / 2;
    later(world, lastingMs, () => world.calmLink());
    return true;
  },
  'spoil-frame': (world, random, _backups, acted) => {
    world.tap.spoil(random.chance(0.7) ? 'hub' : 'agent', acted);
    return false;
  },
  'kill-agent': (world, random) => agentDies(world, 'keep', random),
  'power-agent': (world, random) => agentDies(world, fate(random), random),
  'end-agent': (world, random) => {
    const group = world.agent.up;
    if (group === null || world.agent.isStopped) return false;
    world.excuses.requestsWait = true;
    const waitMs = downMs(random);
    const life = world.agent.starts;
    void world.agent.end().then(() => {
      if (world.agent.starts !== life || world.agent.isWanted) return;
      world.agentIsGone('keep');
      later(world, waitMs, () => startAgent(world));
    });
    // An end that takes too long is helped along, as by systemd.
    later(world, 15_000, () => {
      if (world.agent.starts === life && !world.agent.isWanted) agentDies(world, 'keep', random);
    });
    return true;
  },
  'kill-hub': (world, random) => hubDies(world, 'keep', random),
  'power-hub': (world, random) => hubDies(world, fate(random), random),
  'end-hub': (world, random) => {
    if (world.hub.up === null || world.hub.isStopped) return false;
    world.hub.drain = random.chance();
    const waitMs = downMs(random);
    const life = world.hub.starts;
    void world.hub.end().then(() => {
      if (world.hub.starts === life) later(world, waitMs, () => world.hub.start());
    });
    later(world, 20_000, () => {
      if (world.hub.starts === life && !world.hub.isWanted) hubDies(world, 'keep', random);
    });
    return true;
  },
  'power-both': (world, random) => {
    const how = fate(random);
    if (world.disks.size > 0 && random.chance()) upstreamDies(world, how, random);
    const isHubThere = hubDies(world, how, random);
    return agentDies(world, how, random) && isHubThere;
  },
  'pause-agent': pause('agent'),
  'pause-hub': pause('hub'),
  'pause-upstream': pause('upstream'),
  'kill-upstream': (world, random) => upstreamDies(world, 'keep', random),
  'power-upstream': (world, random) => upstreamDies(world, fate(random), random),
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
  'hub-disk-full': (world, random) => {
    world.hub.files.setCapacity(world.hub.files.usedBytes - random.below(300_000));
    later(world, 4000 + 2 * downMs(random), () => world.hub.files.setCapacity(2 ** 40));
    return true;
  },
  'hub-sync-fails': (world, random, _backups, acted) => {
    const path = random.chance(0.8) ? /\.seg$/ : /base\//;
    world.inject('hub', { operation: 'sync', path, fault: 'io-error', skip: random.below(6) }, acted);
    // A hub whose journal has failed says so, and an operator starts it again.
    later(world, 4000 + downMs(random), () => {
      if (world.store?.progress.stalled === 'journal-failed') hubDies(world, 'keep', random);
    });
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
    const names = ['hot.log', 'identity', ...world.setup.volumes.map(({ name }) => `${name}.map`)];
    const path = `/state/${names[random.below(names.length)] ?? 'hot.log'}`;
    const size = world.agent.files.look(path, Buffer.alloc(1 << 20), 0);
    // One block goes bad. With both copies of the identity's newest image it is as if that had never been stored.
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
  'jump-clock': (world, random) => {
    world.clock.jumpUnix((random.fraction() - 0.5) * 2 * 3_600_000);
    return true;
  },
  'drop-guest': (world, random) => world.guests.forget(random.below(3)) > 0,
  'open-test': (world, random, _backups, acted) => {
    void runTestBranch(world, random, acted);
    return false;
  },
  resync: (world, random) => {
    const isFull = random.chance(0.3);
    return resync(world, isFull, !isFull && random.chance());
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
};

export function act(world: World, step: Step, backups: Backups): void {
  world.trace.add(`step ${step.kind}`);
  let isCounted = false;
  const acted = (): void => {
    if (!isCounted) world.coverage.fault(step.kind);
    isCounted = true;
  };
  if (ACTS[step.kind](world, new Seeded(step.seed), backups, acted)) acted();
}
