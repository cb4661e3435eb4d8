/**
 * Base images put in place for a group that has no history yet, so that its first sync compares instead of sending.
 *
 *   DATA/groups/GROUP/seeds/VOLUME.raw               until the first line begins
 *   DATA/groups/GROUP/lines/LINE/seeds/VOLUME.raw    from then on, until the volume's base image is made of it
 *
 * Always holds: a seed counts from its decision on, and the decision comes when its bytes are durable; what a crash has left
 * without a decision is removed by the next start. They belong to the first line that an agent comes to own; no later line
 * sees them.
 * Must not know: agents, what a base image is.
 */
import { ConfigFault, type FileSystem, StorageFault } from '@rephub/platform';
import { copyImage } from './copy-image.js';

export interface Seed {
  readonly volume: string;
  readonly sizeBytes: number;
}

export function noSeedFile(path: string): ConfigFault {
  return new ConfigFault('seed-file', `there is no file ${path} on the hub's machine`);
}

/** An agent takes only volumes of whole sectors. */
const SECTOR_BYTES = 512;
/** What a qcow2 file begins with. */
const QCOW_MAGIC = Buffer.from('QFI\xfb', 'latin1');

export class Seeds {
  readonly #files: FileSystem;
  readonly #directory: string;
  readonly #sizes: Map<string, number>;
  #stopped = false;

  constructor(files: FileSystem, groupDirectory: string, decided: ReadonlyMap<string, number>) {
    this.#files = files;
    this.#directory = `${groupDirectory}/seeds`;
    this.#sizes = new Map(decided);
  }

  get list(): Seed[] {
    return [...this.#sizes].map(([volume, sizeBytes]) => ({ volume, sizeBytes }));
  }

  /** Removes what no decision speaks of. */
  async clean(): Promise<void> {
    if ((await this.#files.status(this.#directory)) === null) return;
    for (const name of await this.#files.list(this.#directory)) {
      const volume = name.endsWith('.raw') ? name.slice(0, -'.raw'.length) : null;
      if (volume === null || !this.#sizes.has(volume)) await this.#files.remove(`${this.#directory}/${name}`);
    }
    await this.#files.syncDirectory(this.#directory);
  }

  /**
   * Copies the file; `decide` makes it count. Throws a ConfigFault `seed-exists`, `seed-file`; a StorageFault `seed-stopped`
   * or what the disk says.
   */
  async add(volume: string, path: string, decide: (sizeBytes: number) => Promise<void>): Promise<Seed> {
    if (this.#sizes.has(volume)) throw new ConfigFault('seed-exists', `volume ${volume} has been seeded already`);
    const files = this.#files;
    const sizeBytes = await this.#check(path);
    await files.makeDirectory(this.#directory);
    const partial = `${this.#directory}/${volume}.partial`;
    await files.remove(partial);
    try {
      if (!(await copyImage(files, path, partial, () => this.#stopped))) {
        throw new StorageFault('seed-stopped', 'the hub stopped before the file was copied');
      }
      const status = await files.status(partial);
      if (status?.sizeBytes !== sizeBytes) throw new ConfigFault('seed-file', `${path} changed while it was copied`);
      await files.rename(partial, `${this.#directory}/${volume}.raw`);
      await files.syncDirectory(this.#directory);
      await decide(sizeBytes);
    } catch (error) {
      await files.remove(partial).catch(() => undefined);
      throw error;
    }
    this.#sizes.set(volume, sizeBytes);
    return { volume, sizeBytes };
  }

  /** The first line has begun, by a decision: the seeds are its own now. Finishes what a crash has cut short. */
  async handTo(lineDirectory: string): Promise<void> {
    const files = this.#files;
    if (this.#sizes.size === 0 || (await files.status(this.#directory)) === null) return;
    await files.makeDirectory(lineDirectory);
    await files.rename(this.#directory, `${lineDirectory}/seeds`);
    await files.syncDirectory(lineDirectory);
    await files.syncDirectory(this.#directory.slice(0, this.#directory.lastIndexOf('/')));
  }

  /** The line that they were handed to has no owner, so no record either, and another one is about to begin: they wait for that one. */
  async takeBack(lineDirectory: string): Promise<void> {
    const files = this.#files;
    const from = `${lineDirectory}/seeds`;
    if ((await files.status(from)) === null) return;
    await files.rename(from, this.#directory);
    await files.syncDirectory(this.#directory.slice(0, this.#directory.lastIndexOf('/')));
    await files.syncDirectory(lineDirectory);
  }

  /** Another line begins: it has no seeds. */
  forget(): void {
    this.#sizes.clear();
  }

  /** A copy under way is given up. */
  stop(): void {
    this.#stopped = true;
  }

  /** The size of a raw image file. */
  async #check(path: string): Promise<number> {
    const status = await this.#files.status(path);
    if (status === null) throw noSeedFile(path);
    if (status.kind !== 'file') throw new ConfigFault('seed-file', `${path} is no plain file`);
    if (status.sizeBytes === 0) throw new ConfigFault('seed-file', `${path} is empty`);
    const head = Buffer.alloc(QCOW_MAGIC.length);
    const file = await this.#files.open(path, 'read');
    try {
      await file.read(head, 0);
    } finally {
      await file.close();
    }
    if (head.equals(QCOW_MAGIC)) {
      throw new ConfigFault('seed-file', `${path} is qcow2; a seed is raw: qemu-img convert -O raw makes one`);
    }
    if (status.sizeBytes % SECTOR_BYTES !== 0) {
      const said = `${path} has ${status.sizeBytes} bytes, no multiple of ${SECTOR_BYTES}: no volume has that size`;
      throw new ConfigFault('seed-file', said);
    }
    return status.sizeBytes;
  }
}
