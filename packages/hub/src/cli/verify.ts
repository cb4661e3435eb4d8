/** `rephub verify GROUP`: the agent compares everything with this hub while its guest goes on; exit 0 same, 1 differs, 75 could not tell. */
import {
  command,
  type CommandContext,
  CommandFailure,
  EXIT,
  type ExitCode,
  exitCodeOf,
  flag,
  formatSize,
} from '@rephub/command';
import { type Address, asError } from '@rephub/platform';
import { describeVerify, outcomeOf } from '@rephub/protocol';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { askGroups, askHub, hubOption } from './api.js';

const POLL_MS = 250;
/** The agent may be away for so long, or busy with another verification without getting on. */
const PATIENCE_MS = 60_000;
/** A hub that takes nothing may not hear the agent either. */
const STALLED_PATIENCE_MS = 20_000;
const STALLED = /^(disk-full|journal-waits|journal-failed)\b/;
const startedSchema = z.looseObject({ id: z.string() });

export const verifyCommand = command({
  name: 'verify',
  summary: 'compare replica and source while the guest goes on: exit 0 same, 1 differs, 75 could not tell',
  arguments: [{ name: 'GROUP', help: 'the group' }],
  options: { ...hubOption, json: flag({ help: 'print JSON', inFile: false }) },
  run: async ({ http, json }, context) => {
    const id = await begin(http, context).catch((thrown: unknown) => {
      throw exitCodeOf(thrown) === EXIT.wrongUsage ? thrown : couldNotTell(thrown);
    });
    return await outcome(http, json, context, id).catch((thrown: unknown) => {
      throw couldNotTell(thrown);
    });
  },
});

/** 1 says that they differ, and nothing else does. */
function couldNotTell(thrown: unknown): CommandFailure {
  return new CommandFailure(EXIT.tryAgain, `could not tell: ${asError(thrown).message}`, thrown);
}

/** Returns the id under which the outcome will be told. */
async function begin(http: Address, context: CommandContext): Promise<string> {
  const path = `/groups/${encodeURIComponent(context.arguments[0] ?? '')}/verify`;
  return startedSchema.parse(await askHub(http, context, { method: 'POST', path, body: {} })).id;
}

async function outcome(http: Address, json: boolean, context: CommandContext, id: string): Promise<ExitCode> {
  const name = context.arguments[0] ?? '';
  let lastSeen = '';
  let unchangedMs = 0;
  for (;;) {
    const [group] = await askGroups(http, context, name);
    const report = group?.verify ?? null;
    if (report !== null && report.id === id && report.finishedAt !== null) {
      const came = outcomeOf(report);
      const lines = [came.replaceAll('-', ' '), ...describeVerify(report, formatSize)];
      context.out(json ? `${JSON.stringify({ outcome: came, ...report }, null, 2)}\n` : `${lines.join('\n')}\n`);
      return came === 'same' ? EXIT.done : came === 'differs' ? EXIT.failed : EXIT.tryAgain;
    }
    const seen = JSON.stringify(report);
    unchangedMs = seen === lastSeen ? unchangedMs + POLL_MS : 0;
    lastSeen = seen;
    if (unchangedMs >= (STALLED.test(group?.reason ?? '') ? STALLED_PATIENCE_MS : PATIENCE_MS)) {
      throw new Error(`the agent of ${name} does not get on with it: ${group?.state ?? ''}, ${group?.reason ?? ''}`);
    }
    await pause(POLL_MS);
  }
}
