/**
 * VOLUME.map on the disk: its pages read at the start and written one image after the other.
 *
 * Always holds: an image goes over the older of a page's two copies; the room was taken when the file was made.
 * Must not know: what the bits mean, announcements.
 */
import { CorruptionFault, type FileSystem, type OpenFile, readExactly, replaceFile } from '@rephub/platform';
import { type Geometry, PAGE_BLOCKS, PAGE_BYTES, PAGE_HEADER_BYTES, PAGE_WORDS } from './geometry.js';
import {
  choosePage,
  decodeMapHeader,
  encodeMapHeader,
  type MapHeader,
  pagePosition,
  sealPage,
  tagOf,
  type TornCopy,
} from './page.js';

const READ_PAGES = 64;
/** What a page of a map that was just made has as its newest sequence. */
const MADE_SEQUENCE = 3;

export class MapFile {
  readonly geometry: Geometry;
  readonly #file: OpenFile;
  readonly #syncs: boolean;
  readonly #tag: number;
  /** Per page: the sequence of its newest image. */
  readonly #sequences: Float64Array;

  constructor(file: OpenFile, syncs: boolean, geometry: Geometry, tag: number, sequences: Float64Array) {
    this.geometry = geometry;
    this.#file = file;
    this.#syncs = syncs;
    this.#tag = tag;
    this.#sequences = sequences;
  }

  /** The copy that the next image of a page goes over. */
  nextCopy(page: number): 0 | 1 {
    return copyOf((this.#sequences[page] ?? 0) + 1);
  }

  /** Writes the image, whose bits are in place; its header is filled in here. Not durable before `sync`. */
  async writePage(page: number, image: Buffer, restsOn: number): Promise<void> {
    const sequence = (this.#sequences[page] ?? 0) + 1;
    this.#sequences[page] = sequence;
    sealPage(image, page, sequence, restsOn, this.#tag);
    await this.#file.write([image], pagePosition(page, copyOf(sequence)));
  }

  async sync(): Promise<void> {
    if (this.#syncs) await this.#file.sync();
  }

  /** Also where pages are not synced each time. */
  async syncAlways(): Promise<void> {
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** One page as it was found. */
export interface FoundPage {
  readonly page: number;
  readonly words: Uint32Array;
  readonly restsOn: number;
  readonly torn: boolean;
}

/** Opens a map that `makeMap` has made just now. */
export async function openMadeMap(
  files: FileSystem,
  path: string,
  agentId: string,
  geometry: Geometry,
  syncs: boolean,
): Promise<MapFile> {
  const file = await files.open(path, 'write');
  return new MapFile(
    file,
    syncs,
    geometry,
    tagOf(encodeMapHeader(agentId, geometry)),
    new Float64Array(geometry.pages).fill(MADE_SEQUENCE),
  );
}

/** Reads the header block; throws CorruptionFault `map-missing`, `map-corrupt`, `map-version`, `map-foreign`. */
export async function readMapHeader(
  file: OpenFile,
  path: string,
  agentId: string,
): Promise<{ header: MapHeader; tag: number }> {
  const block = Buffer.alloc(PAGE_BYTES);
  const count = await file.read(block, 0);
  if (count < PAGE_BYTES) throw new CorruptionFault('map-corrupt', `${path} is cut short at byte ${count}`);
  const header = decodeMapHeader(block, path);
  if (header.agentId !== agentId) {
    throw new CorruptionFault('map-foreign', `${path} belongs to agent ${header.agentId}, not ${agentId}`);
  }
  return { header, tag: tagOf(block) };
}

/**
 * Reads all pages and hands each to `found` (its words are valid during the call only); returns the sequences.
 * Throws CorruptionFault when one cannot be relied on.
 */
export async function readPages(
  file: OpenFile,
  path: string,
  geometry: Geometry,
  tag: number,
  announced: (page: number) => TornCopy,
  found: (page: FoundPage) => void,
): Promise<Float64Array> {
  const { sizeBytes } = await file.status();
  if (sizeBytes !== mapBytes(geometry)) {
    throw new CorruptionFault('map-corrupt', `${path} has ${sizeBytes} bytes, not ${mapBytes(geometry)}`);
  }
  const sequences = new Float64Array(geometry.pages);
  const words = new Uint32Array(PAGE_WORDS);
  const bytes = Buffer.from(words.buffer);
  for (let first = 0; first < geometry.pages; first += READ_PAGES) {
    const pages = Math.min(READ_PAGES, geometry.pages - first);
    const part = await readExactly(file, pagePosition(first, 0), pages * 2 * PAGE_BYTES);
    for (let index = 0; index < pages; index += 1) {
      const page = first + index;
      const pair = part.subarray(index * 2 * PAGE_BYTES, (index + 1) * 2 * PAGE_BYTES);
      const copies = [pair.subarray(0, PAGE_BYTES), pair.subarray(PAGE_BYTES)] as const;
      const chosen = choosePage(copies, path, page, tag, announced(page));
      sequences[page] = chosen.sequence;
      bytes.set(copies[chosen.copy === 0 ? 0 : 1].subarray(PAGE_HEADER_BYTES));
      found({ page, words, restsOn: chosen.restsOn, torn: chosen.torn });
    }
  }
  return sequences;
}

/** Makes a map in full, durably, in place of what has its name; `words` fills in the bits of one page. */
export async function makeMap(
  files: FileSystem,
  path: string,
  agentId: string,
  geometry: Geometry,
  restsOn: number,
  fill: (page: number, words: Uint32Array) => void,
): Promise<void> {
  const header = encodeMapHeader(agentId, geometry);
  const tag = tagOf(header);
  await replaceFile(files, path, async (file) => {
    await file.allocate(0, mapBytes(geometry));
    await file.write([header], 0);
    const words = new Uint32Array(PAGE_WORDS);
    for (let first = 0; first < geometry.pages; first += READ_PAGES) {
      const pages = Math.min(READ_PAGES, geometry.pages - first);
      const part = Buffer.alloc(pages * 2 * PAGE_BYTES);
      for (let index = 0; index < pages; index += 1) {
        words.fill(0);
        fill(first + index, words);
        for (const copy of [0, 1]) {
          const image = part.subarray((index * 2 + copy) * PAGE_BYTES, (index * 2 + copy + 1) * PAGE_BYTES);
          image.set(new Uint8Array(words.buffer), PAGE_HEADER_BYTES);
          sealPage(image, first + index, MADE_SEQUENCE - 1 + copy, restsOn, tag);
        }
      }
      await file.write([part], pagePosition(first, 0));
    }
  });
}

/** A page's words with every block of the volume that lies in it set. */
export function fillAll(geometry: Geometry): (page: number, words: Uint32Array) => void {
  return (page, words) => {
    const blocks = Math.min(PAGE_BLOCKS, geometry.blocks - page * PAGE_BLOCKS);
    words.fill(0xffff_ffff, 0, blocks >>> 5);
    if ((blocks & 31) !== 0) words[blocks >>> 5] = 0xffff_ffff >>> (32 - (blocks & 31));
  };
}

function copyOf(sequence: number): 0 | 1 {
  return sequence % 2 === 0 ? 0 : 1;
}

function mapBytes(geometry: Geometry): number {
  return pagePosition(geometry.pages, 0);
}
