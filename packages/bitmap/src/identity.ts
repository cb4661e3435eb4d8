/**
 * STATE/identity: four blocks of 4096 bytes, two slots of two equal copies each. Pure codec.
 *
 *  offset  bytes  field
 *       0      4  magic "RPHI"
 *       4      1  version (1)
 *       5      1  reserved, zero
 *       6      6  sequence; the image with sequence n lies in slot n mod 2
 *      12      2  length of the body
 *      14      2  reserved, zero
 *      16         body: JSON, see StoredIdentity
 *    4092      4  CRC-32 of all before
 */
import { ConfigFault, CorruptionFault } from '@rephub/platform';
import { isSealed, isUuid, seal } from './bytes.js';
import type { Identity, Line } from './options.js';

export const IDENTITY_BLOCK_BYTES = 4096;
export const IDENTITY_SLOT_BYTES = 2 * IDENTITY_BLOCK_BYTES;
export const IDENTITY_BYTES = 2 * IDENTITY_SLOT_BYTES;
const MAGIC = 0x4948_5052;
const VERSION = 1;
const BODY_AT = 16;
const MAX_BODY_BYTES = IDENTITY_BLOCK_BYTES - BODY_AT - 4;
/** The rest is for what the tracker itself stores, at a start above all: no note may keep it from that. */
const MAX_NOTES_BYTES = 2816;

/** What is stored besides what the agent sees. */
export interface StoredIdentity extends Identity {
  /** `making`: the other files are not all there yet. */
  readonly stage: 'making' | 'made';
  /** False: marks cannot be relied on; `reason` says why. */
  readonly trusted: boolean;
  readonly reason: string;
  /** Stopped in order, with no mark left. */
  readonly clean: boolean;
  /** Indexes of the volumes that have a map. */
  readonly volumes: readonly number[];
  /** How marks are kept, and by which run of the host (boot.ts); empty: an earlier version did not say. */
  readonly kept: string;
}

/** Throws ConfigFault `identity-too-big` for notes that take too much, and more than those of before. */
export function checkNotes(notes: Identity['notes'], before: Identity['notes']): void {
  const bytes = notesBytes(notes);
  if (bytes <= MAX_NOTES_BYTES || bytes <= notesBytes(before)) return;
  throw new ConfigFault('identity-too-big', `notes take ${bytes} bytes, ${MAX_NOTES_BYTES} are there`);
}

function notesBytes(notes: Identity['notes']): number {
  return Buffer.byteLength(JSON.stringify(notes));
}

/** One slot: the block, twice. Throws ConfigFault `identity-too-big` when it does not fit. */
export function encodeIdentity(identity: StoredIdentity, sequence: number): Buffer {
  const body = Buffer.from(JSON.stringify(identity), 'utf8');
  if (body.length > MAX_BODY_BYTES) {
    throw new ConfigFault('identity-too-big', `identity takes ${body.length} bytes, ${MAX_BODY_BYTES} are there`);
  }
  const slot = Buffer.alloc(IDENTITY_SLOT_BYTES);
  const block = slot.subarray(0, IDENTITY_BLOCK_BYTES);
  block.writeUInt32LE(MAGIC, 0);
  block.writeUInt8(VERSION, 4);
  block.writeUIntLE(sequence, 6, 6);
  block.writeUInt16LE(body.length, 12);
  body.copy(block, BODY_AT);
  seal(block);
  block.copy(slot, IDENTITY_BLOCK_BYTES);
  return slot;
}

export interface ReadIdentity {
  readonly identity: StoredIdentity;
  readonly sequence: number;
}

/** The newest whole image; throws CorruptionFault `identity-corrupt` or `identity-version`. */
export function decodeIdentity(file: Buffer): ReadIdentity {
  let newest: ReadIdentity | null = null;
  for (let at = 0; at + IDENTITY_BLOCK_BYTES <= file.length; at += IDENTITY_BLOCK_BYTES) {
    const read = decodeBlock(file.subarray(at, at + IDENTITY_BLOCK_BYTES));
    if (read !== null && read.sequence > (newest?.sequence ?? -1)) newest = read;
  }
  if (newest === null) throw new CorruptionFault('identity-corrupt', 'identity: no image in it is whole');
  return newest;
}

function decodeBlock(block: Buffer): ReadIdentity | null {
  if (block.readUInt32LE(0) !== MAGIC || !isSealed(block)) return null;
  const version = block.readUInt8(4);
  if (version !== VERSION) {
    throw new CorruptionFault('identity-version', `identity is of version ${version}, this software reads ${VERSION}`);
  }
  const length = block.readUInt16LE(12);
  if (length > MAX_BODY_BYTES) return null;
  let body: unknown;
  try {
    body = JSON.parse(block.toString('utf8', BODY_AT, BODY_AT + length));
  } catch {
    return null;
  }
  const identity = parseIdentity(body);
  return identity === null ? null : { identity, sequence: block.readUIntLE(6, 6) };
}

function parseIdentity(body: unknown): StoredIdentity | null {
  if (!isRecord(body)) return null;
  const { agentId, session, group, lastNumber, restsOn, durableNumber, notes, stage, trusted, reason, clean } = body;
  const line = parseLine(body['line']);
  const volumes = body['volumes'];
  const kept = body['kept'] ?? '';
  if (!isUuid(agentId) || typeof group !== 'string' || line === null || !isRecord(notes)) return null;
  if (!isCount(session) || !isCount(lastNumber) || !isCount(restsOn) || !isCount(durableNumber)) return null;
  if (!Array.isArray(volumes) || !volumes.every(isCount)) return null;
  if ((stage !== 'making' && stage !== 'made') || typeof trusted !== 'boolean') return null;
  if (typeof reason !== 'string' || typeof clean !== 'boolean' || typeof kept !== 'string') return null;
  const checked: Record<string, string> = {};
  for (const [key, value] of Object.entries(notes)) {
    if (typeof value !== 'string') return null;
    checked[key] = value;
  }
  return {
    agentId,
    session,
    group,
    line,
    lastNumber,
    restsOn,
    durableNumber,
    notes: checked,
    stage,
    trusted,
    reason,
    clean,
    volumes,
    kept,
  };
}

function parseLine(value: unknown): Line | null {
  if (!isRecord(value) || !isUuid(value['id'])) return null;
  const { parent } = value;
  if (parent === null) return { id: value['id'], parent };
  if (!isRecord(parent) || !isUuid(parent['id']) || !isCount(parent['number'])) return null;
  return { id: value['id'], parent: { id: parent['id'], number: parent['number'] } };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
