/** `repagent verify`: everything is compared with the hub while the guest goes on; exit 0 same, 1 differs, 75 could not tell. */
import { askJson, command, CommandFailure, EXIT, flag, formatSize, path, required } from '@rephub/command';
import { describeVerify, outcomeOf } from '@rephub/protocol';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type GroupStatus } from '../report.js';
import { CONTROL_SOCKET } from './control-server.js';

const TIMEOUT_MS = 5_000;
const POLL_MS = 250;

export const verifyCommand = command({
  name: 'verify',
  summary: 'compare everything with the hub while the guest goes on: exit 0 same, 1 differs, 75 could not tell',
  options: {
    state: required(path(), { placeholder: 'DIR', help: 'the state directory of the running agent' }),
    json: flag({ help: 'print JSON', inFile: false }),
  },
  run: async ({ state, json }, { out }) => {
    const ask = async (method: 'GET' | 'POST', request: string): Promise<unknown> => {
      const address = { kind: 'unix', path: join(state, CONTROL_SOCKET) } as const;
      return await askJson({ address, method, path: request, timeoutMs: TIMEOUT_MS });
    };
    const { id } = (await ask('POST', '/verify')) as { readonly id: string };
    for (;;) {
      const { verify } = (await ask('GET', '/status')) as GroupStatus;
      if (verify !== null && verify.id === id && verify.finishedAt !== null) {
        const outcome = outcomeOf(verify);
        out(json ? `${JSON.stringify({ outcome, ...verify }, null, 2)}\n` : '');
        if (!json)
          for (const line of [outcome.replaceAll('-', ' '), ...describeVerify(verify, formatSize)]) out(`${line}\n`);
        return outcome === 'same' ? EXIT.done : outcome === 'differs' ? EXIT.failed : EXIT.tryAgain;
      }
      if (verify === null) throw new CommandFailure(EXIT.tryAgain, 'the agent does not verify: it is stopping');
      await pause(POLL_MS);
    }
  },
});
