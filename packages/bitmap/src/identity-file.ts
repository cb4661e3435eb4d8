/**
 * STATE/identity on the disk: two slots written in turn, so that a torn write leaves the image before.
 *
 * Always holds: when `save` resolves the new identity is durable, whatever the marks are (a session or a number that is
 * given twice would bar this agent); saves happen one after the other, in the
 * order they were asked for; after one that failed, all fail.
 */
import { CorruptionFault, type FileSystem, type OpenFile, replaceFile } from '@rephub/platform';
import {
  decodeIdentity,
  encodeIdentity,
  IDENTITY_BYTES,
  IDENTITY_SLOT_BYTES,
  type ReadIdentity,
  type StoredIdentity,
} from './identity.js';

export const IDENTITY_NAME = 'identity';

export class IdentityFile {
  readonly #file: OpenFile;
  #stored: StoredIdentity;
  #sequence: number;
  #last: Promise<void> = Promise.resolve();

  constructor(file: OpenFile, read: ReadIdentity) {
    this.#file = file;
    this.#stored = read.identity;
    this.#sequence = read.sequence;
  }

  /** As it was last asked to be stored. */
  get stored(): StoredIdentity {
    return this.#stored;
  }

  /** Stores what `patch` changes. Throws ConfigFault `identity-too-big` (and changes nothing), StorageFault. */
  save(patch: Partial<StoredIdentity>): Promise<void> {
    const next = { ...this.#stored, ...patch };
    const sequence = this.#sequence + 1;
    const slot = encodeIdentity(next, sequence);
    this.#stored = next;
    this.#sequence = sequence;
    this.#last = this.#last.then(async () => {
      await this.#file.write([slot], (sequence % 2) * IDENTITY_SLOT_BYTES);
      await this.#file.sync();
    });
    return this.#last;
  }

  async close(): Promise<void> {
    await this.#last.catch(() => undefined);
    await this.#file.close();
  }
}

/** Makes the file with both slots filled, durably. */
export async function makeIdentity(files: FileSystem, path: string, identity: StoredIdentity): Promise<ReadIdentity> {
  const [newest, older] = [encodeIdentity(identity, 2), encodeIdentity(identity, 1)];
  await replaceFile(files, path, async (file) => {
    await file.write([newest, older], 0);
  });
  return { identity, sequence: 2 };
}

/** Null when there is no such file; throws CorruptionFault `identity-corrupt` or `identity-version`. */
export async function readIdentity(files: FileSystem, path: string): Promise<ReadIdentity | null> {
  const status = await files.status(path);
  if (status === null) return null;
  if (status.kind !== 'file') throw new CorruptionFault('identity-corrupt', `${path} is not a file`);
  const file = await files.open(path, 'read');
  try {
    const content = Buffer.alloc(Math.min(status.sizeBytes, IDENTITY_BYTES));
    const count = await file.read(content, 0);
    return decodeIdentity(content.subarray(0, count));
  } finally {
    await file.close();
  }
}
