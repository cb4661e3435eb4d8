/** What requests to the API carry, checked before anything is done. Unknown keys are refused by name. */
import { ConfigFault, NAME_PATTERN, NAME_RULE } from '@rephub/platform';
import type { Context } from 'hono';
import { z } from 'zod';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const name = z.string().regex(NAME_PATTERN, NAME_RULE);

const DEFAULT_LEASE_SECONDS = 60;
const DEFAULT_SCRATCH_BYTES = 16 * 1024 ** 3;

export const openTestSchema = z.strictObject({
  name: name.optional(),
  /** A POINT; today `latest`, or `seq:N` when that is the latest. */
  at: z.string().max(200).default('latest'),
  /** The test goes when it is not renewed for so long; null: stays. */
  leaseSeconds: z.number().min(1).max(86_400).nullable().default(DEFAULT_LEASE_SECONDS),
  scratchBytes: count.min(1).default(DEFAULT_SCRATCH_BYTES),
});

export const renewSchema = z.strictObject({
  /** Stays open without its owner from now on. */
  keep: z.boolean().default(false),
});

export const readSchema = z.strictObject({
  volume: name,
  offset: count,
  length: count.min(1),
  timeoutSeconds: z.number().min(0.1).max(600).default(30),
});

export const resyncSchema = z
  .strictObject({
    full: z.boolean().default(false),
    /** Everything, by checksum: only what differs is sent. */
    compare: z.boolean().default(false),
    /** The resync that lacks room may give the last good point up. */
    dropLastGood: z.boolean().default(false),
  })
  .refine(({ full, compare }) => !(full && compare), 'full and compare exclude each other');

export const seedSchema = z.strictObject({
  volume: name,
  /** On the hub's machine. */
  path: z.string().min(1).max(4096).startsWith('/', 'the path must be absolute'),
});

export const nothingSchema = z.strictObject({});

/** What destroys is said twice: the group's name, again. */
export const forgetSchema = z.strictObject({ confirm: name });

export const eventsQuerySchema = z.strictObject({
  after: z.coerce.number().int().min(0).optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(200),
});

const MAX_BODY_BYTES = 64 * 1024;

/** The body as JSON of this shape. An empty one counts as `{}`; another media type is refused, so that no web form passes. */
export async function bodyOf<T>(context: Context, schema: z.ZodType<T>): Promise<T> {
  const type = context.req.header('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== 'application/json') throw new ConfigFault('bad-body', 'the content-type must be application/json');
  const text = await textOf(context.req.raw);
  let parsed: unknown;
  try {
    parsed = text === '' ? {} : JSON.parse(text);
  } catch {
    throw new ConfigFault('bad-body', 'the body is not JSON');
  }
  return check(schema, parsed);
}

/** The body as text; no more than the limit of it is ever taken into memory. */
async function textOf(request: Request): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> | null = request.body;
  if (body === null) return '';
  for await (const part of body) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) {
      throw new ConfigFault('body-too-large', `the body has more than the ${MAX_BODY_BYTES} bytes that are allowed`);
    }
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/** Throws a ConfigFault `bad-body` that names what is wrong. */
export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const said = checked.error.issues.map((issue) => `${issue.path.join('.') || 'body'}: ${issue.message}`);
  throw new ConfigFault('bad-body', said.join('; '));
}
