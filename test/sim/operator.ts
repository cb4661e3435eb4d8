/** What somebody has to do by hand: start the agent, or give it up for a new one. */
import { sleep } from '@rephub/platform';
import { type SimFiles } from '@rephub/platform/sim';
import { type World } from './world.js';

export function startAgent(world: World): void {
  world.volumeCount = world.setup.volumes.length;
  world.agent.start();
  // A new process has waited for nobody yet.
  world.clock.after(1500, () => world.calm());
}

/** The agent's state is lost; a new agent with the same disks is let in by the operator. */
export async function enrolAnew(world: World): Promise<void> {
  world.trace.add('operator: a new state directory, enrolled at the hub');
  world.excuses.requestsWait = true;
  world.crashAgent('keep');
  world.excuses.groupBegunAnew += 1;
  if (world.stranger !== null) {
    // What it has sent may be under way for a while.
    world.stranger.kill();
    await world.settle(sleep(world.clock, 500), 1000);
  }
  const files: SimFiles = world.agent.files;
  await world.settle(files.removeTree('/state'), 5_000);
  const { group } = world;
  const owner = group?.store?.state.owner ?? null;
  world.enrolledAfter = owner?.agentId ?? null;
  if (group !== null && owner !== null) await world.settle(group.enroll(), 5_000);
  startAgent(world);
}

/** Tells whether there was an agent to order it from. */
export function orderResync({ agent, trace }: World, isFull: boolean, isCompared: boolean): boolean {
  agent.up?.resync(isFull, isCompared).catch((thrown: unknown) => trace.add(`resync: ${String(thrown)}`));
  return agent.up !== null && !agent.isStopped;
}
