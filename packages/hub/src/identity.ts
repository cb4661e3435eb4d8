/**
 * Who this hub is: DATA/hub.json, with the hub's id, the epoch of its right to serve the directory, and the
 * directory's format. Read and checked before anything else of the directory is touched.
 *
 * Always holds: a directory of another format version, or whose file is damaged, is refused and left as it
 * is; the epoch rises, durably, with each change of hands (here: never yet, one hub per directory).
 */
import {
  ConfigFault,
  CorruptionFault,
  crc32,
  type FileSystem,
  type Randomness,
  randomUuid,
  readSmallFile,
  replaceSmallFile,
  StorageFault,
  UUID_PATTERN,
} from '@rephub/platform';
import { z } from 'zod';

export interface HubIdentity {
  readonly hubId: string;
  readonly epoch: number;
}

const DATA_FORMAT = 1;

const fileSchema = z.object({
  magic: z.literal('rephub-data'),
  format: z.number().int().min(1),
  hubId: z.string().regex(UUID_PATTERN),
  epoch: z.number().int().min(1),
  checksum: z.number().int(),
});

/**
 * The identity in `directory`, made when the directory is new. The caller holds the directory's lock.
 * Throws a ConfigFault `data-not-ours`; a StorageFault `data-version`; a CorruptionFault `data-identity`.
 */
export async function openIdentity(files: FileSystem, randomness: Randomness, directory: string): Promise<HubIdentity> {
  const path = `${directory}/hub.json`;
  const bytes = await readSmallFile(files, path);
  if (bytes === null) return await makeIdentity(files, randomness, directory, path);
  const identity = parseIdentity(bytes, path);
  // Agents are told it: a killed process may have left its name in the cache alone.
  await files.syncDirectory(directory);
  return identity;
}

/** Before the directory is locked, which an agent may have done. Throws a ConfigFault `data-not-ours` for an agent's state directory. */
export async function refuseAgentState(files: FileSystem, directory: string): Promise<void> {
  const names = new Set(await files.list(directory));
  if (names.has('hub.json') || !(names.has('identity') && names.has('hot.log'))) return;
  const said = `${directory} is the state directory of a repagent; the hub's data needs a directory of its own`;
  throw new ConfigFault('data-not-ours', said);
}

async function makeIdentity(
  files: FileSystem,
  randomness: Randomness,
  directory: string,
  path: string,
): Promise<HubIdentity> {
  // What a hub of ours leaves behind when it dies before its identity is there, and what file systems put there.
  const mayBeThere = new Set(['lock', 'hub.json.new', 'lost+found']);
  const foreign = (await files.list(directory)).filter((name) => !mayBeThere.has(name));
  if (foreign.length > 0) {
    throw new ConfigFault(
      'data-not-ours',
      `${directory} holds ${foreign.slice(0, 3).join(', ')} and no hub.json: it is not a data directory of rephub; give an empty one`,
    );
  }
  const identity = { hubId: randomUuid(randomness), epoch: 1 };
  await replaceSmallFile(files, path, Buffer.from(formatIdentity(identity)));
  return identity;
}

function formatIdentity(identity: HubIdentity): string {
  const body = { magic: 'rephub-data', format: DATA_FORMAT, hubId: identity.hubId, epoch: identity.epoch };
  return `${JSON.stringify({ ...body, checksum: checksumOf(body.format, identity) })}\n`;
}

function checksumOf(format: number, identity: HubIdentity): number {
  return crc32(Buffer.from(`${format} ${identity.hubId} ${identity.epoch}`));
}

function parseIdentity(bytes: Buffer, path: string): HubIdentity {
  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new CorruptionFault('data-identity', `${path} is damaged: not JSON`, { cause });
  }
  const checked = fileSchema.safeParse(parsed);
  if (!checked.success) throw new CorruptionFault('data-identity', `${path} is damaged or not of rephub`);
  const { format, hubId, epoch, checksum } = checked.data;
  if (checksum !== checksumOf(format, { hubId, epoch })) {
    throw new CorruptionFault('data-identity', `${path} does not match its checksum`);
  }
  if (format !== DATA_FORMAT) {
    throw new StorageFault('data-version', `${path} has format ${format}, this rephub knows format ${DATA_FORMAT}`);
  }
  return { hubId, epoch };
}
