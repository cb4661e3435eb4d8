/** `rephub read`: a region of a volume as it is at the source now, fetched by the agent. */
import { open } from 'node:fs/promises';
import {
  command,
  type CommandContext,
  CommandFailure,
  duration,
  EXIT,
  optional,
  path,
  required,
  size,
  withDefault,
} from '@rephub/command';
import { ConfigFault, plainReason } from '@rephub/platform';
import { z } from 'zod';
import { parseExportName } from '../exports/export-names.js';
import { askHub, hubOption } from './api.js';

/** One question to the hub; its answer is base64 in JSON. */
const STEP_BYTES = 4 * 1024 * 1024;

const answerSchema = z.object({ seq: z.number(), data: z.base64() });

export const readCommand = command({
  name: 'read',
  summary: 'fetch a region from the source, through the agent',
  arguments: [{ name: 'GROUP/VOLUME', help: 'the volume' }],
  options: {
    ...hubOption,
    offset: required(size(), { placeholder: 'SIZE', help: 'where the region begins', inFile: false }),
    length: required(size({ min: 1 }), { placeholder: 'SIZE', help: 'how long it is', inFile: false }),
    out: optional(path(), { placeholder: 'FILE', help: 'write the bytes there instead of to stdout', inFile: false }),
    timeout: withDefault(duration({ min: 100, max: 600_000 }), '30s', {
      placeholder: 'TIME',
      help: 'how long the agent may take for each part',
    }),
  },
  run: async (values, context) => {
    const parsed = parseExportName(context.arguments[0] ?? '');
    if (parsed.kind !== 'point' || context.arguments[0] !== `${parsed.group}/${parsed.volume}`) {
      throw new ConfigFault('bad-value', `"${context.arguments[0] ?? ''}" is not allowed, expected GROUP/VOLUME`);
    }
    const sink = await openSink(values.out, context);
    try {
      for (let done = 0; done < values.length; done += STEP_BYTES) {
        const length = Math.min(STEP_BYTES, values.length - done);
        const answer = answerSchema.parse(
          await askHub(values.http, context, {
            method: 'POST',
            path: `/groups/${encodeURIComponent(parsed.group)}/read`,
            body: {
              volume: parsed.volume,
              offset: values.offset + done,
              length,
              timeoutSeconds: values.timeout / 1000,
            },
            timeoutMs: 4 * values.timeout + 5000,
          }),
        );
        const bytes = Buffer.from(answer.data, 'base64');
        if (bytes.length !== length) throw new CommandFailure(EXIT.failed, 'the hub answered with another length');
        await sink.write(bytes);
      }
    } finally {
      await sink.close();
    }
    return undefined;
  },
});

interface Sink {
  write(bytes: Buffer): Promise<void>;
  close(): Promise<void>;
}

async function openSink(file: string | undefined, context: CommandContext): Promise<Sink> {
  if (file === undefined) {
    if (process.stdout.isTTY) context.err('the bytes go to stdout; --out FILE or a pipe takes them\n');
    return {
      write: (bytes) =>
        new Promise((resolve, reject) => {
          process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
        }),
      close: () => Promise.resolve(),
    };
  }
  const handle = await open(file, 'w').catch((cause: unknown) => {
    throw new ConfigFault('bad-value', `--out: cannot write ${file}: ${plainReason(cause)}`, { cause });
  });
  return {
    write: async (bytes) => {
      await handle.writeFile(bytes);
    },
    close: async () => {
      await handle.close();
    },
  };
}
