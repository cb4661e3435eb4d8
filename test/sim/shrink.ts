/** Looks for a shorter script that breaks the same promise: leaves out halves of the steps, then quarters, then single ones. */
import { type Outcome, runScript } from './run.js';
import { type Script } from './script.js';

const MOST_RUNS = 200;

export async function shrink(script: Script, outcome: Outcome, tell: (text: string) => void): Promise<Script> {
  const wanted = nameOf(outcome);
  // What comes after the failure has nothing to do with it; of a failure while all is healed, that is nothing.
  const steps = script.steps.filter(({ atMs }) => atMs <= outcome.endedMs);
  let best: Script = { ...script, lengthMs: Math.min(script.lengthMs, outcome.endedMs), steps };
  let runs = 0;
  for (let part = Math.ceil(best.steps.length / 2); part >= 1; part = part === 1 ? 0 : Math.ceil(part / 2)) {
    for (let at = 0; at < best.steps.length && runs < MOST_RUNS;) {
      const steps = [...best.steps.slice(0, at), ...best.steps.slice(at + part)];
      const shorter = { ...best, steps };
      runs += 1;
      if (nameOf(await runScript(shorter)) === wanted) {
        best = shorter;
        tell(`run ${runs}: ${steps.length} steps still break ${wanted}`);
      } else at += part;
    }
  }
  return best;
}

function nameOf({ violation, error }: Outcome): string {
  return violation?.promise ?? (error === null ? 'nothing' : `error ${error.message.slice(0, 40)}`);
}
