/**
 * The base images of a group, one per volume: which exist, their files, and what they cannot hold (ranges that upstream
 * could not read).
 *
 * Always holds: an image is made when the record that adds its volume is folded; until then the volume has none and
 * everything below its layers is a hole, whatever a fold that was cut short has left under its name. A removed volume's image is kept under another name (NODISCARD).
 * Must not know: layers, journals.
 */
import { type FileSystem, readSmallFile, replaceSmallFile } from '@rephub/platform';
import { decodeBody, encodeBody } from '@rephub/protocol';
import { z } from 'zod';
import type { BaseImage } from './base-image.js';
import { FileBaseImage } from './file-base-image.js';
import type { ImageNotes } from './image-notes.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const unreadableSchema = z.object({
  version: z.literal(1),
  /** Per volume (by the number of the record that added it): start and end of each range. */
  volumes: z.array(z.object({ added: count, ranges: z.array(z.tuple([count, count])) })),
});

/** Start and end of each range, per volume. */
export type UnreadableRanges = ReadonlyMap<number, readonly (readonly [number, number])[]>;

export class BaseSet {
  readonly #files: FileSystem;
  readonly directory: string;
  readonly #seeds: string | null;
  readonly #seeded: ReadonlySet<string>;
  readonly #images = new Map<number, BaseImage>();
  readonly #making = new Map<number, Promise<BaseImage>>();

  /**
   * `seeds`: the directory of images that volumes of this line begin with; null when it was not seeded. `seeded`: their names;
   * of all others nothing that is found is believed.
   */
  constructor(files: FileSystem, directory: string, seeds: string | null, seeded: ReadonlySet<string>) {
    this.#files = files;
    this.directory = directory;
    this.#seeds = seeds;
    this.#seeded = seeded;
  }

  /** The image of the volume that this record added; null while it has none. */
  image(added: number): BaseImage | null {
    return this.#images.get(added) ?? null;
  }

  /** Opens an image that must exist, with one of these sizes. Throws `base-missing`, `base-size`. */
  async open(added: number, name: string, sizes: readonly number[]): Promise<void> {
    this.#images.set(added, await FileBaseImage.open(this.#files, this.#path(name), sizes));
  }

  /** The image of a volume that was added; made when it is not there. */
  async make(added: number, name: string, sizeBytes: number): Promise<BaseImage> {
    const image = this.#images.get(added);
    if (image !== undefined) return image;
    let making = this.#making.get(added);
    if (making === undefined) {
      making = this.#make(added, name, sizeBytes).finally(() => this.#making.delete(added));
      this.#making.set(added, making);
    }
    return await making;
  }

  /** The image of a volume that begins with one, made now if it has not been; null where it begins empty and has none yet. */
  async imageOrSeed(added: number, name: string, sizeBytes: number): Promise<BaseImage | null> {
    const image = this.#images.get(added);
    if (image !== undefined) return image;
    if (this.#seeds === null || !this.#seeded.has(name)) return null;
    const exists =
      (await this.#seedOf(name, sizeBytes)) !== null || (await this.#files.status(this.#path(name))) !== null;
    return exists ? await this.make(added, name, sizeBytes) : null;
  }

  async #make(added: number, name: string, sizeBytes: number): Promise<BaseImage> {
    const path = this.#path(name);
    const seed = (await this.#files.status(path)) === null ? await this.#seedOf(name, sizeBytes) : null;
    if (seed !== null) await this.#files.rename(seed, path);
    // Also of one that was renamed by a try that got no further.
    if (this.#seeds !== null) {
      await this.#files.syncDirectory(this.directory);
      await this.#files.syncDirectory(this.#seeds);
    }
    const image = await FileBaseImage.make(
      this.#files,
      path,
      sizeBytes,
      this.#seeds !== null && this.#seeded.has(name),
    );
    this.#images.set(added, image);
    return image;
  }

  async #seedOf(name: string, sizeBytes: number): Promise<string | null> {
    if (this.#seeds === null || !this.#seeded.has(name)) return null;
    const path = `${this.#seeds}/${name}.raw`;
    return (await this.#files.status(path))?.sizeBytes === sizeBytes ? path : null;
  }

  /** The volume is gone as of record `removed`: its image is put aside. */
  async putAside(added: number, name: string, removed: number): Promise<void> {
    const image = this.#images.get(added);
    this.#images.delete(added);
    await image?.close();
    const path = this.#path(name);
    // Gone already: a try that got no further may have renamed it, and that is not durable yet.
    if ((await this.#files.status(path)) !== null) await this.#files.rename(path, `${path}.removed-${removed}`);
    await this.#files.syncDirectory(this.directory);
  }

  /** What is in the open images is on stable storage when this resolves. */
  async sync(): Promise<void> {
    for (const image of this.#images.values()) await image.sync();
  }

  /** How the files of the open images are now. */
  async notes(): Promise<ImageNotes> {
    const images = [...this.#images];
    return await Promise.all(images.map(async ([added, image]) => ({ added, ...(await image.seen()) })));
  }

  async readUnreadable(): Promise<UnreadableRanges> {
    const bytes = await readSmallFile(this.#files, `${this.directory}/unreadable`);
    if (bytes === null) return new Map();
    const { volumes } = decodeBody(unreadableSchema, bytes, 'unreadable');
    return new Map(volumes.map(({ added, ranges }) => [added, ranges]));
  }

  /** Durable when it resolves. */
  async writeUnreadable(ranges: UnreadableRanges): Promise<void> {
    const volumes = [...ranges].map(([added, list]) => ({ added, ranges: list }));
    await replaceSmallFile(this.#files, `${this.directory}/unreadable`, encodeBody({ version: 1, volumes }));
  }

  async close(): Promise<void> {
    for (const image of this.#images.values()) await image.close();
    this.#images.clear();
  }

  #path(name: string): string {
    return `${this.directory}/${name}.raw`;
  }
}
