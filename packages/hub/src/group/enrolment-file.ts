/**
 * An operator's word that the next unknown agent may take a group over, kept in the group's directory until
 * it is used. It names the owner that it replaces, so that it is void as soon as the owner has changed.
 */
import { type FileSystem, parentOf, readSmallFile, replaceSmallFile } from '@rephub/platform';
import { z } from 'zod';
import type { Enrolment } from '../session/admission.js';

const schema = z.object({ replaces: z.string() });

export function enrolmentPath(groupDirectory: string): string {
  return `${groupDirectory}/enrolment.json`;
}

/** Null when there is none; a damaged one counts as none: the operator says it again. */
export async function readEnrolment(files: FileSystem, path: string): Promise<Enrolment | null> {
  const bytes = await readSmallFile(files, path);
  if (bytes === null) return null;
  try {
    const parsed = schema.safeParse(JSON.parse(bytes.toString('utf8')));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Durable when it resolves. */
export async function writeEnrolment(files: FileSystem, path: string, enrolment: Enrolment): Promise<void> {
  await replaceSmallFile(files, path, Buffer.from(`${JSON.stringify(enrolment)}\n`));
}

export async function removeEnrolment(files: FileSystem, path: string): Promise<void> {
  await files.remove(path);
  await files.syncDirectory(parentOf(path));
}
