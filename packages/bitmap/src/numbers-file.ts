/**
 * STATE/numbers: which name has which number, where the maps alone do not say it: names that are away keep theirs.
 * Made anew in full for each change, so that a crash leaves the table before or the one after.
 *
 *  offset  bytes  field
 *       0      4  magic "RPHN"
 *       4      1  version (1)
 *       5      7  reserved, zero
 *      12      4  length of the body
 *      16     16  agent id
 *      32         body: JSON, { next, numbers: [[name, number], …] }, in the table's order
 *     end      4  CRC-32 of all before
 *
 * Must not know: how numbers are chosen.
 */
import { CorruptionFault, type FileSystem, readSmallFile, replaceFile, uuidText } from '@rephub/platform';
import { isSealed, seal, writeUuid } from './bytes.js';
import { MAX_VOLUME_INDEX } from './geometry.js';
import type { NumberTable } from './numbers.js';

export const NUMBERS_NAME = 'numbers';

const MAGIC = 0x4e48_5052;
const VERSION = 1;
const BODY_AT = 32;

/** Null when there is none. Throws CorruptionFault `numbers-corrupt`, `numbers-version`, `numbers-foreign`; StorageFault. */
export async function readNumbers(files: FileSystem, path: string, agentId: string): Promise<NumberTable | null> {
  const bytes = await readSmallFile(files, path);
  if (bytes === null) return null;
  const corrupt = new CorruptionFault('numbers-corrupt', `${path} is not whole`);
  if (bytes.length < BODY_AT + 4 || bytes.readUInt32LE(0) !== MAGIC || !isSealed(bytes)) throw corrupt;
  const version = bytes.readUInt8(4);
  if (version !== VERSION) {
    throw new CorruptionFault('numbers-version', `${path} is of version ${version}, this software reads ${VERSION}`);
  }
  const owner = uuidText(bytes, 16);
  if (owner !== agentId) throw new CorruptionFault('numbers-foreign', `${path} belongs to agent ${owner}`);
  if (bytes.readUInt32LE(12) !== bytes.length - BODY_AT - 4) throw corrupt;
  const table = parseTable(bytes.toString('utf8', BODY_AT, bytes.length - 4));
  if (table === null) throw corrupt;
  return table;
}

/** Durable when it resolves. Throws StorageFault; then what was there is still there. */
export async function writeNumbers(
  files: FileSystem,
  path: string,
  agentId: string,
  table: NumberTable,
): Promise<void> {
  const body = Buffer.from(JSON.stringify({ next: table.next, numbers: [...table.numbers] }), 'utf8');
  const bytes = Buffer.alloc(BODY_AT + body.length + 4);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(VERSION, 4);
  bytes.writeUInt32LE(body.length, 12);
  writeUuid(bytes, agentId, 16);
  body.copy(bytes, BODY_AT);
  seal(bytes);
  await replaceFile(files, path, async (file) => {
    await file.write([bytes], 0);
  });
}

function parseTable(text: string): NumberTable | null {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof body !== 'object' || body === null || !('next' in body) || !('numbers' in body)) return null;
  const { next, numbers } = body;
  if (typeof next !== 'number' || !Number.isSafeInteger(next)) return null;
  if (!Array.isArray(numbers) || !numbers.every(isEntry)) return null;
  return { next, numbers: new Map(numbers) };
}

function isEntry(entry: unknown): entry is [string, number] {
  if (!Array.isArray(entry) || entry.length !== 2) return false;
  const [name, number] = entry as unknown[];
  return typeof name === 'string' && isNumber(number);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_VOLUME_INDEX;
}
