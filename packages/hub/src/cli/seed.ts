/** `rephub seed GROUP/VOLUME FILE`: an image that is near what the volume holds, so that the first sync only sends what differs. */
import { command, CommandFailure, EXIT, formatSize } from '@rephub/command';
import { resolve } from 'node:path';
import { z } from 'zod';
import { askHub, hubOption } from './api.js';

/** A copy of a large image where the file system cannot share blocks. */
const TIMEOUT_MS = 48 * 3_600_000;
const answerSchema = z.object({ seeded: z.object({ volume: z.string(), sizeBytes: z.number() }) });

export const seedCommand = command({
  name: 'seed',
  summary: 'put a raw image in place for a group that no agent has begun yet; its first sync then compares by checksum',
  arguments: [
    { name: 'GROUP/VOLUME', help: 'what it is for' },
    { name: 'FILE', help: "a raw image on the hub's machine, of the volume's size; it is copied" },
  ],
  options: hubOption,
  run: async (values, context) => {
    const [target = '', file = ''] = context.arguments;
    const [group = '', volume = '', ...more] = target.split('/');
    if (group === '' || volume === '' || more.length > 0) {
      throw new CommandFailure(EXIT.wrongUsage, `"${target}" is not GROUP/VOLUME`);
    }
    const answer = await askHub(values.http, context, {
      method: 'POST',
      path: `/groups/${encodeURIComponent(group)}/seed`,
      body: { volume, path: resolve(file) },
      timeoutMs: TIMEOUT_MS,
    });
    const { seeded } = answerSchema.parse(answer);
    context.out(
      `${group}/${volume} is seeded with ${formatSize(seeded.sizeBytes)}; the agent's first sync will compare\n`,
    );
    return undefined;
  },
});
