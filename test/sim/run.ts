/** One run: the script's steps in their time, the checkers' moments, healing. Same script, same run. */
import { asError } from '@rephub/platform';
import { Backups } from './backups.js';
import { type Coverage } from './coverage.js';
import { act } from './faults/index.js';
import { heal } from './healing.js';
import { Looker } from './looking.js';
import { type Script } from './script.js';
import { Violation, World } from './world.js';

const MOMENT_MS = 200;
const SECOND_MS = 1500;

export interface Outcome {
  /** Null: all promises were kept. */
  readonly violation: Violation | null;
  /** Something else went wrong: a bug of the simulator, or an error that nobody caught. */
  readonly error: Error | null;
  readonly fingerprint: string;
  readonly newest: readonly string[];
  readonly coverage: Coverage;
  /** Virtual. */
  readonly endedMs: number;
}

export async function runScript(script: Script, print: ((line: string) => void) | null = null): Promise<Outcome> {
  const world = new World(script.setup, print);
  const loose: Error[] = [];
  // A promise that nobody waits for is a bug of ours: Node would end the process, and the seed would not be told.
  const onLoose = (thrown: unknown): void => {
    loose.push(asError(thrown));
  };
  process.on('unhandledRejection', onLoose);
  let error: Error | null = null;
  try {
    await play(world, script);
  } catch (thrown) {
    if (thrown instanceof Violation) world.violation ??= thrown;
    else error = asError(thrown);
  } finally {
    process.off('unhandledRejection', onLoose);
  }
  const { coverage } = world;
  coverage.seeds = 1;
  coverage.virtualMs = world.nowMs;
  coverage.requests = world.guests.requests;
  return {
    violation: world.violation,
    error: error ?? world.error ?? loose[0] ?? null,
    fingerprint: world.trace.fingerprint,
    newest: world.trace.newest(40),
    coverage,
    endedMs: world.nowMs,
  };
}

async function play(world: World, script: Script): Promise<void> {
  await world.begin();
  const looker = new Looker(world);
  const moment = (): void => {
    world.clock.after(MOMENT_MS, moment);
    world.unseenRot.look();
    for (const checker of world.checkers) checker.moment?.();
  };
  const second = (): void => {
    world.clock.after(SECOND_MS, second);
    world.unseenRot.look();
    for (const checker of world.checkers) checker.second?.();
    looker.look();
  };
  moment();
  second();
  const backups = new Backups();
  for (const step of script.steps) {
    if (!(await world.advanceTo(step.atMs))) return;
    act(world, step, backups);
  }
  if (await world.advanceTo(script.lengthMs)) await heal(world);
}
