/** How a process dies in the world, when it comes back, and what its death excuses. Each tells whether there was one to die. */
import { type CrashFate, type SeededRandomness } from '@rephub/platform/sim';
import { startAgent } from './operator.js';
import { type World } from './world.js';

const FATES: readonly CrashFate[] = ['lose', 'tear', 'garble', 'mixed'];

/** Often too short to be noticed, and at times longer than a silent peer is waited for. */
export function silentMs(random: SeededRandomness): number {
  return downMs(random) * 2 + (random.chance(0.3) ? 6_500 : 0);
}

/** Now and then at once, mostly soon, at times after seconds. */
export function downMs(random: SeededRandomness): number {
  return 20 + random.fraction() ** 3 * 6000;
}

export function fate(random: SeededRandomness): CrashFate {
  return FATES[random.below(FATES.length)] ?? 'mixed';
}

export function later(world: World, delayMs: number, act: () => void): void {
  world.clock.after(delayMs, () => {
    if (!world.healing) act();
  });
}

/** It dies after so many more steps of its own at most, and after so long in any case. */
const STEPS = 400;
const STEPS_WITHIN_MS = 400;

/**
 * Half of the deaths come at once, which is mostly while nothing is under way; the others in the midst of what the process
 * does, at any of its steps. Tells whether there was one to die.
 */
export function diesAtWork(
  world: World,
  which: 'agent' | 'hub' | 'upstream',
  how: CrashFate,
  random: SeededRandomness,
): boolean {
  const dies = { agent: agentDies, hub: hubDies, upstream: upstreamDies }[which];
  const process = world[which];
  const { isThere, isStopped, starts } = process;
  if (!isThere || isStopped || random.chance()) return dies(world, how, random);
  let isDue = true;
  const die = (): void => {
    // Something else may have killed it.
    if (!isDue || process.starts !== starts) return;
    isDue = false;
    dies(world, how, random);
    if (world.healing) process.start();
  };
  process.killAfterSteps(1 + Math.floor(random.fraction() ** 2 * STEPS), die);
  world.clock.after(STEPS_WITHIN_MS, die);
  return true;
}

export function agentDies(world: World, how: CrashFate, random: SeededRandomness): boolean {
  const { isThere } = world.agent;
  world.coverage.crashes += 1;
  world.excuses.requestsWait = true;
  world.crashAgent(how);
  later(world, downMs(random), () => startAgent(world));
  return isThere;
}

export function hubDies(world: World, how: CrashFate, random: SeededRandomness): boolean {
  const { isThere } = world.hub;
  world.coverage.crashes += 1;
  world.crashHub(how);
  later(world, downMs(random), () => world.hub.start());
  return isThere;
}

/** What rots may be the only copy of what was acknowledged: it is named, and had from the agent again. */
export function hubRots({ excuses }: World): void {
  excuses.hubRotted = true;
  excuses.hubRots += 1;
  excuses.exposureUnknown = true;
  excuses.dataForgotten += 1;
}

export function upstreamDies(world: World, how: CrashFate, random: SeededRandomness): boolean {
  if (world.disks.size === 0) return false;
  const { isThere } = world.upstream;
  world.coverage.crashes += 1;
  world.excuses.requestsWait = true;
  world.crashUpstream(how);
  later(world, downMs(random), () => {
    world.upstream.start();
    world.clock.after(3000, () => world.calm());
  });
  return isThere;
}
