/**
 * Volumes as arrays of page ids: a page's checksum, 0 for zeroes. Contents are compared so, in a few
 * microseconds, and a difference is named by its page.
 */
import { type BlockDevice, AllocationFlag, blockStatus, readBytes } from '@rephub/nbd';
import type { SimFiles } from '@rephub/platform/sim';
import { crc32 } from 'node:zlib';

export const PAGE = 4096;
/** Bytes per bit of the agent's map. */
export const BLOCK = 64 * 1024;
const PAGES_PER_BLOCK = BLOCK / PAGE;
const ZEROES = Buffer.alloc(PAGE);
const ZERO_CHECKSUM = crc32(ZEROES);
const READ_BYTES = 1024 * 1024;

export type Pages = Uint32Array;

export function emptyPages(sizeBytes: number): Pages {
  return new Uint32Array(sizeBytes / PAGE);
}

/** The id of one page's bytes. */
export function pageId(bytes: Uint8Array): number {
  const checksum = crc32(bytes);
  return checksum === ZERO_CHECKSUM ? 0 : checksum;
}

/** What a file of the simulated disk holds, as programs see it. */
export function pagesOfFile(files: SimFiles, path: string, sizeBytes: number): Pages {
  const pages = emptyPages(sizeBytes);
  const buffer = Buffer.alloc(PAGE);
  for (const { position, lengthBytes } of files.seen(path)?.data() ?? []) {
    const from = Math.floor(position / PAGE);
    for (let page = from; page * PAGE < position + lengthBytes; page += 1) {
      files.look(path, buffer, page * PAGE);
      pages[page] = pageId(buffer);
    }
  }
  return pages;
}

/** What a device holds; what its block status calls zero is not read. */
export async function pagesOfDevice(device: BlockDevice): Promise<Pages> {
  const pages = emptyPages(device.sizeBytes);
  for (let at = 0; at < device.sizeBytes;) {
    const { runs } = await blockStatus(device, at, device.sizeBytes - at, 'base:allocation');
    // Pairs of length and flags.
    for (let index = 0; index < runs.length; index += 2) {
      const length = runs[index] ?? 0;
      const flags = runs[index + 1] ?? 0;
      if ((flags & AllocationFlag.Zero) === 0) await readInto(pages, device, at, at + length);
      at += length;
    }
  }
  return pages;
}

async function readInto(pages: Pages, device: BlockDevice, from: number, to: number): Promise<void> {
  const start = Math.floor(from / PAGE) * PAGE;
  for (let at = start; at < to; at += READ_BYTES) {
    const bytes = await readBytes(device, at, Math.min(READ_BYTES, Math.ceil(to / PAGE) * PAGE - at));
    for (let offset = 0; offset < bytes.length; offset += PAGE) {
      pages[(at + offset) / PAGE] = pageId(bytes.subarray(offset, offset + PAGE));
    }
  }
}

/** The first page that differs, for people; null when none does. */
export function firstDifference(a: Pages, b: Pages): string | null {
  for (let page = 0; page < Math.max(a.length, b.length); page += 1) {
    if (a[page] !== b[page]) return `page ${page}: ${hex(a[page])} and ${hex(b[page])}`;
  }
  return null;
}

/** Blocks in which the two differ. */
export function* differingBlocks(a: Pages, b: Pages): Iterable<number> {
  for (let block = 0; block * PAGES_PER_BLOCK < a.length; block += 1) {
    const from = block * PAGES_PER_BLOCK;
    for (let page = from; page < Math.min(from + PAGES_PER_BLOCK, a.length); page += 1) {
      if (a[page] === b[page]) continue;
      yield block;
      break;
    }
  }
}

function hex(id: number | undefined): string {
  return id === undefined ? 'nothing' : id.toString(16);
}
