/**
 * base/applied: up to which record the base images hold everything, and what a restart must know to read on from there.
 * Owns the file and its body. A slot's body is msgpack.
 */
import { CorruptionFault, type FileSystem, type StorageFault } from '@rephub/platform';
import { decodeBody, encodeBody, lineSchema } from '@rephub/protocol';
import { z } from 'zod';
import { pointSchema } from '../point.js';
import { SlotFile } from '../slot-file.js';
import { imageNotesSchema } from './image-notes.js';

/** Room for 256 volumes with the longest names, twice over. */
const SLOT_BYTES = 64 * 1024;
const NAME = 'applied';

const appliedSchema = z.object({
  version: z.literal(1),
  line: lineSchema,
  /** Journal position of the first record that the base images do not hold for certain. */
  position: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  point: pointSchema,
  /** A fold was on its way to this number: the images may hold parts of the records up to it, and show nothing below it. */
  foldingTo: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  /** The images' files, as the last whole fold left them. Left out by older hubs. */
  images: imageNotesSchema.optional(),
  /** Images that somebody else had changed when record `since` was the last one: until a span has ended that began after it. */
  changed: z.object({ why: z.string(), since: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER) }).optional(),
});
export type Applied = z.infer<typeof appliedSchema>;

/** Up to which number the images may hold parts of records. */
export function imagesReach({ point, foldingTo }: Applied): number {
  return Math.max(point.number, foldingTo ?? 0);
}

/** Why all must be compared, as the images are not what the log makes of them; null when they are, as far as is known. */
export function imagesChanged({ changed }: Applied, consistentNumber: number | null): string | null {
  // The agent compares everything in a span that begins with its next record: what is consistent after that has all of it.
  return changed === undefined || (consistentNumber ?? 0) > changed.since ? null : changed.why;
}

export class AppliedFile {
  readonly #slots: SlotFile;

  private constructor(slots: SlotFile) {
    this.#slots = slots;
  }

  /** Makes the file, whole or not at all. */
  static async make(files: FileSystem, directory: string, applied: Applied): Promise<AppliedFile> {
    return new AppliedFile(await SlotFile.make(files, `${directory}/${NAME}`, SLOT_BYTES, encodeBody(applied)));
  }

  /**
   * Null when there is no such file; throws `applied-damaged` when it cannot be understood, and what the disk says when that
   * is why. `unread`: it may have been written once more, which the disk did not give.
   */
  static async open(
    files: FileSystem,
    directory: string,
  ): Promise<{ file: AppliedFile; applied: Applied; unread: StorageFault | null } | null> {
    const found = await SlotFile.open(files, `${directory}/${NAME}`, SLOT_BYTES);
    if (found === null) return null;
    const { unread } = found;
    try {
      if (found.body === null && unread !== null) throw unread;
      if (found.body === null) throw new CorruptionFault('applied-damaged', `no slot of ${directory}/${NAME} is whole`);
      return { file: new AppliedFile(found.file), applied: decodeBody(appliedSchema, found.body, NAME), unread };
    } catch (error) {
      await found.file.close();
      if (error instanceof CorruptionFault || error === unread) throw error;
      throw new CorruptionFault('applied-damaged', `${directory}/${NAME} cannot be understood`, { cause: error });
    }
  }

  /** Durable when it resolves. */
  async write(applied: Applied): Promise<void> {
    await this.#slots.write(encodeBody(applied));
  }

  async close(): Promise<void> {
    await this.#slots.close();
  }
}
