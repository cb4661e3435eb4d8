/** What destroys is said with `--yes`; without it the plan is shown, and on a terminal a person is asked. */
import { createInterface } from 'node:readline/promises';
import { type CommandContext, CommandFailure, EXIT } from '@rephub/command';

/** Returns when the plan may be carried out; else throws with exit code 2. */
export async function confirm(plan: string, yes: boolean, context: CommandContext): Promise<void> {
  if (yes) return;
  context.err(`${plan}\n`);
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CommandFailure(EXIT.wrongUsage, 'nothing was done; say --yes to do it');
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question('Do it? Type yes: ');
    if (answer.trim() !== 'yes') throw new CommandFailure(EXIT.wrongUsage, 'nothing was done');
  } finally {
    terminal.close();
  }
}
