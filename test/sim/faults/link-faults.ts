/** What happens to the network between agent and hub: cut, silent, slow, damaged. */
import { SeededRandomness as Seeded } from '@rephub/platform/sim';
import { downMs, later, silentMs } from '../deaths.js';
import { LINK } from '../processes.js';
import { type StepKind } from '../step-kinds.js';
import { type Act } from './act.js';

export const LINK_FAULTS = {
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
    // Nearer to the beginning, where a header lies.
    world.tap.spoil(random.chance(0.7) ? 'hub' : 'agent', random.fraction() ** 3, acted);
    return false;
  },
} as const satisfies Partial<Record<StepKind, Act>>;
