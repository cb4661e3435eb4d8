/** Our three commands as built: where they are, and running one to its end. */
import { join } from 'node:path';
import { run, type RunOptions, type RunResult } from './process.js';

const packages = join(import.meta.dirname, '../../packages');

/** The script that Node runs for each command. */
export const COMMANDS = {
  repagent: join(packages, 'agent/bin/repagent.js'),
  rephub: join(packages, 'hub/bin/rephub.js'),
  'failover-test': join(packages, 'hub/bin/failover-test.js'),
} as const;

export type CommandName = keyof typeof COMMANDS;

/** Runs one of our commands to its end; any exit code is a result. */
export async function command(
  name: CommandName,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  return await run(process.execPath, [COMMANDS[name], ...args], options);
}
