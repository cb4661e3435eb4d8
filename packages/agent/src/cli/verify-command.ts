/** `repagent verify`: everything is compared with the hub while the guest goes on; exit 0 same, 1 differs, 75 could not tell. */
import {
  askJson,
  command,
  CommandFailure,
  EXIT,
  type ExitCode,
  flag,
  formatSize,
  path,
  required,
} from '@rephub/command';
import { asError } from '@rephub/platform';
import { describeVerify, outcomeOf } from '@rephub/protocol';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type GroupStatus } from '../report.js';
import { CONTROL_SOCKET } from './control-socket.js';

const TIMEOUT_MS = 5_000;
const POLL_MS = 250;
/** It may be busy with another verification without getting on for so long. */
const PATIENCE_MS = 60_000;

export const verifyCommand = command({
  name: 'verify',
  summary: 'compare everything with the hub while the guest goes on: exit 0 same, 1 differs, 75 could not tell',
  options: {
    state: required(path(), { placeholder: 'DIR', help: 'the state directory of the running agent' }),
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
  const ask = async (method: 'GET' | 'POST', request: string): Promise<unknown> => {
    const address = { kind: 'unix', path: join(state, CONTROL_SOCKET) } as const;
    return await askJson({ address, method, path: request, timeoutMs: TIMEOUT_MS });
  };
  const { id } = (await ask('POST', '/verify')) as { readonly id: string };
  let lastSeen = '';
  let leftMs = PATIENCE_MS;
  for (;;) {
    const { verify: report } = (await ask('GET', '/status')) as GroupStatus;
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
