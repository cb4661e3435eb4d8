/**
 * base/applied: up to which record the base images hold everything, and what a restart must know to read on from there.
 * Owns the file and its body. A slot's body is msgpack.
 */
import { CorruptionFault, type FileSystem } from '@rephub/platform';
import { decodeBody, encodeBody, lineSchema } from '@rephub/protocol';
import { z } from 'zod';
import { pointSchema } from '../point.js';
import { SlotFile } from '../slot-file.js';

/** Room for 256 volumes with the longest names, twice over. */
const SLOT_BYTES = 64 * 1024;

export const appliedSchema = z.object({
  version: z.literal(1),
  line: lineSchema,
  /** Journal position of the first record that the base images do not hold for certain. */
  position: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  point: pointSchema,
});
export type Applied = z.infer<typeof appliedSchema>;

export class AppliedFile {
  readonly #slots: SlotFile;

  private constructor(slots: SlotFile) {
    this.#slots = slots;
  }

  /** `applied` is null when the file is new or empty; throws `applied-damaged` when there was something that cannot be read. */
  static async open(files: FileSystem, directory: string): Promise<{ file: AppliedFile; applied: Applied | null }> {
    const { file, content } = await SlotFile.open(files, `${directory}/applied`, SLOT_BYTES);
    try {
      const applied = content.body === null ? null : decodeBody(appliedSchema, content.body, 'applied');
      if (content.damaged) throw new CorruptionFault('applied-damaged', `${directory}/applied is damaged`);
      return { file: new AppliedFile(file), applied };
    } catch (error) {
      await file.close();
      if (error instanceof CorruptionFault) throw error;
      throw new CorruptionFault('applied-damaged', `${directory}/applied cannot be understood`, { cause: error });
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
