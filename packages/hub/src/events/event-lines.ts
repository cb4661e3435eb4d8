/**
 * Events as lines of a file: eight hex digits of CRC-32, a space, the event as JSON, a newline. A line stands for
 * itself: one that is torn or rotten is left out and its neighbours are read.
 *
 * Always holds: any bytes can be parsed; only what matches its checksum and its shape becomes an event.
 */
import { crc32 } from '@rephub/platform';
import { z } from 'zod';
import type { HubEvent } from './events.js';

/** An event that would take more is written without its fields, and with the beginning of its message. */
export const MAX_LINE_BYTES = 16 * 1024;

const CUT_MESSAGE_CHARS = 1000;
const HEAD_BYTES = 9;
const NEWLINE = 0x0a;

const eventSchema = z.object({
  id: z.number().int().min(0),
  unixMs: z.number(),
  level: z.enum(['info', 'warn', 'error']),
  group: z.string().nullable(),
  event: z.string(),
  message: z.string(),
  fields: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
});

export function formatEvent(event: HubEvent): Buffer {
  const line = lineOf(event);
  if (line.length <= MAX_LINE_BYTES) return line;
  return lineOf({ ...event, message: `${event.message.slice(0, CUT_MESSAGE_CHARS)} …`, fields: {} });
}

function lineOf(event: HubEvent): Buffer {
  const json = JSON.stringify(event);
  const sum = crc32(Buffer.from(json)).toString(16).padStart(8, '0');
  return Buffer.from(`${sum} ${json}\n`);
}

export interface ParsedEvents {
  /** As they stand there, ids rising. */
  readonly events: HubEvent[];
  /** Lines between good ones that are not. */
  readonly damaged: number;
  /** Where the last good line ends; what follows was being written, or is rotten. */
  readonly goodBytes: number;
}

/** `fromMiddle`: the bytes may begin in the middle of a line. */
export function parseEvents(bytes: Buffer, fromMiddle: boolean): ParsedEvents {
  const events: HubEvent[] = [];
  let damaged = 0;
  let damagedSince = 0;
  let goodBytes = 0;
  let at = fromMiddle ? bytes.indexOf(NEWLINE) + 1 : 0;
  for (let end = bytes.indexOf(NEWLINE, at); end >= 0; end = bytes.indexOf(NEWLINE, at)) {
    const line = bytes.subarray(at, end);
    at = end + 1;
    // Each run begins with a newline: what it found before may end without one.
    if (line.length === 0) continue;
    const event = parseLine(line);
    if (event === null || event.id <= (events.at(-1)?.id ?? -1)) {
      damagedSince += 1;
      continue;
    }
    events.push(event);
    goodBytes = at;
    damaged += damagedSince;
    damagedSince = 0;
  }
  return { events, damaged, goodBytes };
}

function parseLine(line: Buffer): HubEvent | null {
  if (line.length <= HEAD_BYTES) return null;
  const json = line.subarray(HEAD_BYTES);
  const sum = `${crc32(json).toString(16).padStart(8, '0')} `;
  if (line.toString('latin1', 0, HEAD_BYTES) !== sum) return null;
  try {
    return eventSchema.safeParse(JSON.parse(json.toString('utf8'))).data ?? null;
  } catch {
    return null;
  }
}
