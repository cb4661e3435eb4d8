/** `rephub verify GROUP`: the agent compares everything with this hub while its guest goes on; exit 0 same, 1 differs, 75 could not tell. */
import { command, CommandFailure, EXIT, flag, formatSize } from '@rephub/command';
import { describeVerify, outcomeOf } from '@rephub/protocol';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { askGroups, askHub, hubOption } from './api.js';

const POLL_MS = 250;
/** The agent may be away for so long, or busy with another verification without getting on. */
const PATIENCE_MS = 60_000;
const startedSchema = z.looseObject({ id: z.string() });

export const verifyCommand = command({
  name: 'verify',
  summary: 'compare replica and source while the guest goes on: exit 0 same, 1 differs, 75 could not tell',
  arguments: [{ name: 'GROUP', help: 'the group' }],
  options: { ...hubOption, json: flag({ help: 'print JSON', inFile: false }) },
  run: async (values, context) => {
    const name = context.arguments[0] ?? '';
    const path = `/groups/${encodeURIComponent(name)}/verify`;
    const { id } = startedSchema.parse(await askHub(values.http, context, { method: 'POST', path, body: {} }));
    let lastSeen = '';
    let leftMs = PATIENCE_MS;
    for (;;) {
      const [group] = await askGroups(values.http, context, name);
      const verify = group?.verify ?? null;
      if (verify !== null && verify.id === id && verify.finishedAt !== null) {
        const outcome = outcomeOf(verify);
        const lines = [outcome.replaceAll('-', ' '), ...describeVerify(verify, formatSize)];
        context.out(values.json ? `${JSON.stringify({ outcome, ...verify }, null, 2)}\n` : `${lines.join('\n')}\n`);
        return outcome === 'same' ? EXIT.done : outcome === 'differs' ? EXIT.failed : EXIT.tryAgain;
      }
      const seen = JSON.stringify(verify);
      leftMs = seen === lastSeen ? leftMs - POLL_MS : PATIENCE_MS;
      lastSeen = seen;
      if (leftMs <= 0) throw new CommandFailure(EXIT.tryAgain, `the agent of ${name} does not get on with it`);
      await pause(POLL_MS);
    }
  },
});
