/**
 * Whose a state directory is: one agent's at a time, from before anything of it is read, made, or asked through it until
 * the end of its process.
 */
import { type FileLock, type FileSystem, StorageFault } from '@rephub/platform';
import { refuseForeign } from './foreign-directory.js';

/** Makes the directory ours; nothing of a state is read or made. Throws StorageFault `state-in-use`, ConfigFault `state-not-ours`. */
export async function lockState(files: FileSystem, directory: string): Promise<FileLock> {
  await files.makeDirectory(directory);
  await refuseForeign(files, directory);
  const lock = await files.lock(`${directory}/lock`);
  if (lock !== null) return lock;
  throw new StorageFault('state-in-use', `state directory ${directory} is in use by another agent`, {
    retryable: true,
  });
}
