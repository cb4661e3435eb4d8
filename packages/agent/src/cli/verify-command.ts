/** `repagent verify`: everything is compared with the hub while the guest goes on; exit 0 same, 1 differs, 75 could not tell. */
import { command, CommandFailure, EXIT, type ExitCode, flag, formatSize } from '@rephub/command';
import { asError } from '@rephub/platform';
import { describeVerify, outcomeOf } from '@rephub/protocol';
import { setTimeout as pause } from 'node:timers/promises';
import { askAgent, askStatus, stateOption } from './control-client.js';

const POLL_MS = 250;
/** It may be busy with another verification without getting on for so long. */
const PATIENCE_MS = 60_000;

export const verifyCommand = command({
  name: 'verify',
  summary: 'compare everything with the hub while the guest goes on: exit 0 same, 1 differs, 75 could not tell',
  options: {
    ...stateOption,
    json: flag({ help: 'print JSON', inFile: false }),
  },
  run: async ({ state, json }, { out }) => {
    // 1 says that they differ, and nothing else does.
    return await verify(state, json, out).catch((thrown: unknown) => {
      throw new CommandFailure(EXIT.tryAgain, `could not tell: ${asError(thrown).message}`, thrown);
    });
  },
});

async function verify(state: string, json: boolean, out: (text: string) => void): Promise<ExitCode> {
  const { id } = (await askAgent(state, 'POST', '/verify')) as { readonly id: string };
  let lastSeen = '';
  let leftMs = PATIENCE_MS;
  for (;;) {
    const status = await askStatus(state);
    if (status.starting) throw new Error(`the agent was started again meanwhile: ${status.reason}`);
    const { verify: report } = status;
    if (report === null) throw new Error('the agent does not verify: it is stopping');
    if (report.id === id && report.finishedAt !== null) {
      const outcome = outcomeOf(report);
      const lines = [outcome.replaceAll('-', ' '), ...describeVerify(report, formatSize)];
      out(json ? `${JSON.stringify({ outcome, ...report }, null, 2)}\n` : `${lines.join('\n')}\n`);
      return outcome === 'same' ? EXIT.done : outcome === 'differs' ? EXIT.failed : EXIT.tryAgain;
    }
    const seen = JSON.stringify(report);
    leftMs = seen === lastSeen ? leftMs - POLL_MS : PATIENCE_MS;
    lastSeen = seen;
    if (leftMs <= 0) throw new Error('the agent does not get on with it');
    await pause(POLL_MS);
  }
}
