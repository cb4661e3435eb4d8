/**
 * The bodies of control frames and of records that carry msgpack: their shapes, checked by zod on
 * arrival, and their encoding. docs/design.md, "Control frames", says when each is sent.
 *
 * Unknown keys are dropped, so that a newer peer may add some; a missing or wrong one is a ProtocolFault.
 */
import { crc32, NAME_PATTERN, ProtocolFault, UUID_PATTERN } from '@rephub/platform';
import { Packr } from 'msgpackr';
import { z } from 'zod';
import {
  encodeHeader,
  encodeTrailer,
  FRAME_OVERHEAD_BYTES,
  FrameHeader,
  type FrameType,
  HEADER_BYTES,
  MAX_CONTROL_BYTES,
} from './frame.js';
import { checkPlainMsgpack } from './plain-msgpack.js';

const name = z.string().regex(NAME_PATTERN);
const uuid = z.string().regex(UUID_PATTERN);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const checksum = z.number().int().min(0).max(0xffff_ffff);
const text = z.string().max(4096);
/** Some 31,000 years. Whatever a peer says, a Date can show it, and what follows from it: one that cannot throws where it is shown. */
const MOST_MS = 1e15;
const unixMs = z.number().min(-MOST_MS).max(MOST_MS);
const ageMs = z.number().min(0).max(MOST_MS);

/** A line of history: its identity, and where it left its parent. */
export const lineSchema = z.object({ id: uuid, parent: z.object({ id: uuid, number: count }).nullable() });
export type Line = z.infer<typeof lineSchema>;

export const volumeSchema = z.object({ index: z.number().int().min(0).max(0xffff), name, sizeBytes: count });
export type VolumeDescription = z.infer<typeof volumeSchema>;

/** No name and no index may occur twice. */
const volumesSchema = z
  .array(volumeSchema)
  .max(256)
  .refine((volumes) => new Set(volumes.map((volume) => volume.name)).size === volumes.length, 'a name occurs twice')
  .refine((volumes) => new Set(volumes.map((volume) => volume.index)).size === volumes.length, 'an index occurs twice');

/** The only one there is; Hello names a range, Welcome one of it. */
export const PROTOCOL_VERSION = 1;

/** Sessions before its own that an agent tells in Hello, at most. */
export const MAX_EARLIER_SESSIONS = 16;

/** Agent to hub, first frame of a session. */
export const helloSchema = z.object({
  protocol: z.object({ min: z.number().int().min(1), max: z.number().int().min(1) }),
  features: z.array(text).max(64),
  software: text,
  group: name,
  agentId: uuid,
  /** Rises with every start of the agent process, stored before it is told. */
  session: count,
  /** Drawn anew by every agent process: tells a reconnect from a second process on a copied state directory. */
  nonce: uuid,
  /**
   * Sessions before this one that were noted before their Hello, newest first, with the first 8 digits of their nonces: the
   * state of an old copy does not know the sessions that came after it was taken, or knows others under their numbers.
   */
  earlierSessions: z
    .array(z.object({ session: count, nonce: z.string().regex(/^[0-9a-f]{8}$/) }))
    .max(MAX_EARLIER_SESSIONS)
    .optional(),
  line: lineSchema,
  /** The highest number that this agent knows to have been used on its line, or, better after a crash, the highest that may have been. */
  lastNumber: count,
  /** The number on which cleared marks rest: a hub that has less came back older. */
  restsOn: count,
  /** The highest number that a hub has acknowledged as durable to this agent. */
  durableNumber: count,
  /**
   * Records that can be sent again: numbers `first` to `last`, and the header checksum of the record before them on the
   * chain. None are left when `last` is `first - 1`. Null after a restart: what was given is not known exactly.
   */
  window: z
    .object({ first: count.min(1), last: count, previousChecksum: checksum })
    .refine((window) => window.last >= window.first - 1, { path: ['last'], message: 'must not be below first - 1' })
    .nullable(),
  tracking: z.enum(['new', 'clean', 'marked', 'untrusted']),
  /** The tracking is untrusted because of this: a disk was changed while no agent ran. For people. */
  changedBehind: text.optional(),
  volumes: volumesSchema.min(1),
  /** The operator's word that a volume which is smaller than the hub knows it is meant to be so. */
  mayShrink: z.boolean().optional(),
  mode: z.enum(['async', 'semi-sync', 'sync']),
  /** What no hub has as durable, for an explanation should the two sides have parted. Left out by older agents. */
  written: z
    .object({
      host: text.optional(),
      /** Marks are of whole blocks: at most so many bytes differ. */
      markedBytes: count,
      windowBytes: count,
      /** When the oldest of it was written; null when there is none, or after a crash. */
      sinceUnixMs: unixMs.nullable(),
    })
    .optional(),
});
export type Hello = z.infer<typeof helloSchema>;

/** What the hub holds of a group. */
export const hubGroupSchema = z.object({
  owner: uuid,
  ownerSession: count,
  ownerNonce: uuid,
  line: lineSchema,
  /** The last record that the journal holds, whole and durable, and its header checksum. */
  lastNumber: count,
  lastChecksum: checksum,
  /** The agent time of that record: later ones are not earlier. Left out by older hubs. */
  lastTimeUs: count.optional(),
  /** A span has begun and not ended. */
  spanOpen: z.boolean(),
  /** The newest number that can be opened; null before the first sync has ended. */
  consistentNumber: count.nullable(),
  failedOver: z.boolean(),
  volumes: volumesSchema,
  /** All bytes that were ever written to the line's journal here, by whom, and when it began. Left out by older hubs. */
  written: z
    .object({
      journalBytes: count,
      begunUnixMs: unixMs.nullable(),
      writer: z.object({ agentId: uuid, session: count }),
    })
    .optional(),
});
export type HubGroup = z.infer<typeof hubGroupSchema>;

/** Hub to agent: the answer to Hello when the session is possible at all. */
export const welcomeSchema = z
  .object({
    protocol: z.number().int().min(1),
    features: z.array(text).max(64),
    software: text,
    hubId: uuid,
    /** Rises whenever the right to serve this data directory changes hands. */
    epoch: count,
    heartbeatMs: z.number().min(10).max(600_000),
    timeoutMs: z.number().min(20).max(3_600_000),
    /** Null when the hub does not know the group. */
    group: hubGroupSchema.nullable(),
    /**
     * The oldest write of this agent that is not in the newest point is at most so old now, by its beats and the hub's
     * monotonic clock. Left out where nobody knows: no beat has told of it since the hub's start; and by older hubs.
     */
    exposedMs: ageMs.optional(),
    /** Base images were put in place for a group that has no history yet: a first sync may compare. */
    seeded: z.boolean().optional(),
  })
  .refine((welcome) => welcome.timeoutMs > welcome.heartbeatMs, {
    path: ['timeoutMs'],
    message: 'must be above heartbeatMs',
  });
export type Welcome = z.infer<typeof welcomeSchema>;

const VERDICTS = [
  'nothing-to-do',
  'resume',
  'resync-by-bitmap',
  'compare-everything',
  'first-sync',
  'split-brain',
  'superseded',
  'refuse',
] as const;
export type VerdictKind = (typeof VERDICTS)[number];

/** Agent to hub: what the agent concludes; the hub concludes the same or ends the session. Records follow. */
export const startSchema = z.object({ verdict: z.enum(VERDICTS), row: text, firstNumber: count });
export type Start = z.infer<typeof startSchema>;

/** Either way: the session ends, and why. `retryAfterMs` null: pointless until somebody acts. */
export const refuseSchema = z.object({ code: text, message: text, retryAfterMs: ageMs.nullable() });
export type Refuse = z.infer<typeof refuseSchema>;

export const resyncProgressSchema = z.object({
  cause: text,
  bytesDone: count,
  bytesTotal: count,
  etaSeconds: z.number().nullable(),
  /** Read here and compared by checksum; and sent, because the hub had something else or was not asked. */
  bytesCompared: count.optional(),
  bytesSent: count.optional(),
  /** Of what is read, lately; holes are not. */
  bytesPerSecond: count.optional(),
  /** Of `bytesDone` and `bytesTotal`: holes, which cost neither reading nor sending. The second is missing while it is not known. */
  holeBytesDone: count.optional(),
  holeBytesTotal: count.optional(),
});
export const resyncResultSchema = z.object({
  cause: text,
  bytesSent: count,
  bytesCompared: count,
  finishedAt: text,
});

/** Where a verification found both sides to differ. */
const differenceSchema = z.object({ volume: name, offset: count, length: count });
/** What a verification came to, or has come to so far, in one volume. */
const volumeVerifySchema = z.object({
  name,
  bytesTotal: count,
  bytesSame: count,
  bytesDiffer: count,
  bytesUnknown: count,
  /** Why something of it could not be told; null when all could. */
  reason: text.nullable(),
});
export type VolumeVerify = z.infer<typeof volumeVerifySchema>;

/** A verification that is under way, or the last one. */
const verifyReportSchema = z.object({
  /** Given by whoever asked. */
  id: text,
  cause: text,
  startedAt: text,
  /** Null while it is under way. */
  finishedAt: text.nullable(),
  bytesTotal: count,
  bytesSame: count,
  /** Of these: holes on this side and zeroes on the other, which nobody had to read. */
  bytesHoles: count.optional(),
  bytesDiffer: count,
  /** Could not be told: changed too often, not in step, not readable. */
  bytesUnknown: count,
  /** The first few. */
  differs: z.array(differenceSchema).max(64),
  /** Why something could not be told; null when all could. */
  reason: text.nullable(),
  /** The same figures by volume; an agent that is older does not tell them. */
  volumes: z.array(volumeVerifySchema).max(255).optional(),
});
export type VerifyReport = z.infer<typeof verifyReportSchema>;

/** Reports of differences that wait to be told, at most. */
export const MAX_UNTOLD = 4;
export const untoldSchema = z.array(verifyReportSchema).max(MAX_UNTOLD);

/** The event of a report that found so much to differ is on the hub's disk. */
const keptFindingSchema = z.object({ id: text, bytesDiffer: count });
export type KeptFinding = z.infer<typeof keptFindingSchema>;

/** How well a group is protected, in one word. */
export const PROTECTION_STATES = ['protected', 'catching-up', 'degraded', 'unprotected', 'unknown'] as const;
export type ProtectionState = (typeof PROTECTION_STATES)[number];

/** The agent's own view of the group, with every beat; the hub shows it with the age of the beat added. */
export const agentReportSchema = z.object({
  state: z.enum(PROTECTION_STATES),
  reason: text,
  mode: z.enum(['async', 'semi-sync', 'sync']),
  effectiveMode: z.enum(['async', 'semi-sync', 'sync']),
  /** Age of the oldest acknowledged write that is not in the newest consistent durable point; 0 when there is none, null when it is not known yet. */
  rpoMs: ageMs.nullable(),
  lagBytes: count,
  dirtyBytes: count,
  lastNumber: count,
  resync: resyncProgressSchema.nullable(),
  lastResync: resyncResultSchema.nullable(),
  verify: verifyReportSchema.nullable().optional(),
  /** What a sample taken at the agent's start came to, where upstream cannot tell whether it was changed meanwhile. */
  startSample: verifyReportSchema.nullable().optional(),
  /** Earlier ones, also of earlier processes, that found a difference of which no hub has said that it keeps the event. */
  untold: untoldSchema.optional(),
});
export type AgentReport = z.infer<typeof agentReportSchema>;

/** Both ways, every heartbeat interval. `echoMs` gives the peer's last `sentMs` back. */
export const beatSchema = z.object({
  sentMs: z.number(),
  echoMs: z.number().nullable(),
  unixMs,
  report: agentReportSchema.nullable(),
  /** From the hub, with feature `kept-events`: of the reports that it was told last, those whose difference it will not forget. */
  kept: z
    .array(keptFindingSchema)
    .max(MAX_UNTOLD + 2)
    .optional(),
});
export type Beat = z.infer<typeof beatSchema>;

/** Hub to agent: everything up to `received` is in the journal file, up to `durable` on stable storage. */
export const ackSchema = z.object({
  received: count,
  durable: count,
  /** Why acknowledgements have stopped: `disk-full`, `journal-waits`, `journal-failed`; null while they flow. */
  stalled: text.nullable(),
});
export type Ack = z.infer<typeof ackSchema>;

/** Hub to agent: send this range as a copied record with flag Answer and this tag. */
export const readRegionSchema = z.object({
  tag: z.number().int().min(1).max(0xffff_ffff),
  volume: z.number().int().min(0).max(0xffff),
  offset: count,
  length: count.min(1),
});
export type ReadRegion = z.infer<typeof readRegionSchema>;
export const regionRefusedSchema = z.object({ tag: count, code: text, message: text });
export type RegionRefused = z.infer<typeof regionRefusedSchema>;

/**
 * Hub to agent: an operator asks for something. The kinds after the first two only where both sides have the feature
 * `hashes`; `id` names a verification in the agent's reports.
 */
export const requestSchema = z.object({
  kind: z.enum(['resync-full', 'resync', 'resync-compare', 'verify']),
  id: text.optional(),
});
export type Request = z.infer<typeof requestSchema>;

/** What an agent says in Bye when an operator has paused it: it stays away until told to go on. */
export const PAUSED_FAREWELL = 'paused by the operator';

/** Either way: an orderly end. */
export const byeSchema = z.object({ reason: text });
export type Bye = z.infer<typeof byeSchema>;

/**
 * Payload of a SpanBegin record: why content is sent again. `expectedBytes` is the most that may be sent, when that is known
 * beforehand: the hub compares it with the room that it has.
 */
export const spanBeginSchema = z.object({ cause: text, continues: z.boolean(), expectedBytes: count.optional() });

/** Payload of a VolumeAdded record; index and size are in the header. */
export const volumeAddedSchema = z.object({ name });

const packr = new Packr({ useRecords: false, structuredClone: false, int64AsType: 'number' });

/** A msgpack body. */
export function encodeBody(body: unknown): Buffer {
  return packr.pack(body);
}

/** Decodes and checks a msgpack body; throws a ProtocolFault `bad-body` that names what is wrong. */
export function decodeBody<T>(schema: z.ZodType<T>, bytes: Buffer, what: string): T {
  checkPlainMsgpack(bytes, what);
  let decoded: unknown;
  try {
    decoded = packr.unpack(bytes);
  } catch (cause) {
    throw new ProtocolFault('bad-body', `${what}: not msgpack`, { cause });
  }
  const checked = schema.safeParse(decoded);
  if (checked.success) return checked.data;
  const first = checked.error.issues[0];
  throw new ProtocolFault(
    'bad-body',
    `${what}: ${first === undefined ? 'wrong shape' : `${first.path.join('.') || 'body'}: ${first.message}`}`,
  );
}

/** A whole frame with a msgpack body, in one buffer; for control frames, and for rare records. */
export function encodeFrameWithBody(header: FrameHeader, body: unknown): Buffer {
  const payload = body === undefined ? EMPTY : encodeBody(body);
  if (payload.length > MAX_CONTROL_BYTES) throw new ProtocolFault('frame-too-big', `body of ${payload.length} bytes`);
  header.storedLength = payload.length;
  header.storedChecksum = crc32(payload);
  header.rawChecksum = header.storedChecksum;
  const frame = Buffer.allocUnsafe(FRAME_OVERHEAD_BYTES + payload.length);
  encodeHeader(header, frame, 0);
  payload.copy(frame, HEADER_BYTES);
  encodeTrailer(header.headerChecksum, frame, HEADER_BYTES + payload.length);
  return frame;
}

/** A control frame. */
export function encodeControl(type: FrameType, body: unknown): Buffer {
  const header = new FrameHeader();
  header.type = type;
  return encodeFrameWithBody(header, body);
}

const EMPTY = Buffer.alloc(0);

/** The chain's first link on a line: what the first record names as the checksum before it. */
export function chainStart(line: Uint8Array): number {
  return crc32(line);
}
