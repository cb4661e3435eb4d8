/** What happens to processes: killed, without power, ended in order, stopped for a while; and to their hosts' clock. */
import { agentDies, diesAtWork, downMs, fate, hubDies, later, upstreamDies } from '../deaths.js';
import { startAgent } from '../operator.js';
import { type StepKind } from '../step-kinds.js';
import { type Act } from './act.js';

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

export const PROCESS_FAULTS = {
  'kill-agent': (world, random) => diesAtWork(world, 'agent', 'keep', random),
  'power-agent': (world, random) => diesAtWork(world, 'agent', fate(random), random),
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
  'kill-hub': (world, random) => diesAtWork(world, 'hub', 'keep', random),
  'power-hub': (world, random) => diesAtWork(world, 'hub', fate(random), random),
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
  'kill-upstream': (world, random) => diesAtWork(world, 'upstream', 'keep', random),
  'power-upstream': (world, random) => diesAtWork(world, 'upstream', fate(random), random),
  'jump-clock': (world, random) => {
    world.clock.jumpUnix((random.fraction() - 0.5) * 2 * 3_600_000);
    return true;
  },
} as const satisfies Partial<Record<StepKind, Act>>;
