/**
 * A point on a line: everything that is known of a group after one record, small enough to be stored. Segment headers
 * and the `applied` file carry one each, so that reading can begin there.
 */
import { NAME_PATTERN } from '@rephub/platform';
import { lineSchema, type Line } from '@rephub/protocol';
import { z } from 'zod';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const checksum = z.number().int().min(0).max(0xffff_ffff);

const storedVolumeSchema = z.object({
  index: z.number().int().min(0).max(0xffff),
  name: z.string().regex(NAME_PATTERN),
  sizeBytes: count,
  /** Number of the record that added it: tells it from an earlier volume of that name or index. */
  added: count,
});
export type StoredVolume = z.infer<typeof storedVolumeSchema>;

export const pointSchema = z.object({
  /** The last record before this point (0, or where the parent was left, at the line's start), and its header checksum. */
  number: count,
  checksum,
  /** Agent time of that record, or of a later one before it: never decreasing. */
  timeUs: count,
  spanOpen: z.boolean(),
  /** The newest consistent number at or before `number`, and its agent time. */
  consistentNumber: count.nullable(),
  consistentTimeUs: count,
  volumes: z.array(storedVolumeSchema).max(0x1_0000),
  /** Why the records before this point are incomplete, until a whole comparison has ended. */
  damage: z.string().nullable(),
  /** Numbers were passed over since the damage: what is missing does not come any more, a span must end. */
  hasSkipped: z.boolean().default(false),
});
export type Point = z.infer<typeof pointSchema>;

export { lineSchema, type Line };
