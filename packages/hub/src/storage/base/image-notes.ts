/**
 * How the files of the base images were when the hub had last written them. Whoever writes one while no hub runs (a VM that
 * was booted from it in an emergency, a file restored from a backup) leaves a replica that is not what the log says.
 *
 * Must not know: how the notes are kept, and what follows from a change. Pure.
 */
import { z } from 'zod';

export const imageNotesSchema = z.array(
  z.object({
    /** The number of the record that added the volume. */
    added: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    identity: z.string().max(128),
    changedUnixMs: z.number(),
  }),
);
export type ImageNotes = z.infer<typeof imageNotesSchema>;

/**
 * The volumes (by the record that added them) whose image is not as it was noted: another file, or changed since. One that seems
 * older is as it was: a power cut takes the last change times with it.
 */
export function changedSince(noted: ImageNotes, found: ImageNotes): number[] {
  const now = new Map(found.map((note) => [note.added, note]));
  return noted.flatMap(({ added, identity, changedUnixMs }) => {
    const image = now.get(added);
    const isSame = image === undefined || (image.identity === identity && image.changedUnixMs <= changedUnixMs);
    return isSame ? [] : [added];
  });
}
