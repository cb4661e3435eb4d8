/**
 * Where things lie: blocks, pages and extents of a volume, and the limits on all of them. Pure arithmetic.
 *
 *  block   granularity bytes; one bit
 *  page    32512 blocks; what is written to VOLUME.map at once
 *  extent  4 MiB; what is made hot. Its key is volume index << 24 | extent number, an unsigned 32-bit number.
 *
 * Always holds: block numbers are below 2^31, so that bit arithmetic on them is exact; the key
 * 0xffffffff is no extent's.
 */
import { ConfigFault, NAME_PATTERN } from '@rephub/platform';
import type { TrackedVolume, TrackerOptions } from './options.js';

export const EXTENT_BYTES = 4 * 1024 * 1024;
const EXTENT_BITS_IN_KEY = 24;
/** 64 TiB: 2^24 extents. */
const MAX_VOLUME_BYTES = EXTENT_BYTES * 2 ** EXTENT_BITS_IN_KEY;
export const MAX_VOLUME_INDEX = 254;
const MAX_BLOCKS = 2 ** 31;
/** The key of no extent. */
export const NO_EXTENT = 0xffff_ffff;

export const PAGE_BYTES = 4096;
export const PAGE_HEADER_BYTES = 32;
export const PAGE_WORDS = (PAGE_BYTES - PAGE_HEADER_BYTES) / 4;
export const PAGE_BLOCKS = PAGE_WORDS * 32;

const DEFAULT_GRANULARITY_BYTES = 64 * 1024;
const DEFAULT_HOT_EXTENTS = 1237;
export const MIN_HOT_EXTENTS = 16;
export const MAX_HOT_EXTENTS = 16_384;

export interface Geometry {
  readonly index: number;
  readonly name: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  readonly blocks: number;
  readonly pages: number;
}

/** The layout of one volume; throws ConfigFault for a size or granularity that cannot be tracked. */
export function geometryOf(volume: TrackedVolume, granularityBytes: number): Geometry {
  const { index, name, sizeBytes } = volume;
  if (!NAME_PATTERN.test(name))
    throw new ConfigFault('wrong-name', `volume name ${JSON.stringify(name)} is not a name`);
  if (!Number.isInteger(index) || index < 0 || index > MAX_VOLUME_INDEX) {
    throw new ConfigFault('wrong-volume-index', `volume ${name}: index ${index} is not in 0 … ${MAX_VOLUME_INDEX}`);
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes > MAX_VOLUME_BYTES) {
    throw new ConfigFault('wrong-size', `volume ${name}: ${sizeBytes} bytes cannot be tracked, only 1 byte to 64 TiB`);
  }
  const blocks = Math.ceil(sizeBytes / granularityBytes);
  if (blocks > MAX_BLOCKS) {
    throw new ConfigFault(
      'granularity-too-fine',
      `volume ${name}: ${sizeBytes} bytes need a granularity of at least ${sizeBytes / MAX_BLOCKS} bytes, not ${granularityBytes}`,
    );
  }
  return { index, name, sizeBytes, granularityBytes, blocks, pages: Math.ceil(blocks / PAGE_BLOCKS) };
}

export interface CheckedOptions {
  readonly granularityBytes: number;
  readonly hotExtents: number;
  readonly durability: 'host' | 'process';
  readonly bootId: string | null;
  readonly volumes: readonly Geometry[];
  /** The indexes of `volumes` are only positions in the list: what counts is the number of each name. */
  readonly isNumberedByName: boolean;
  readonly mayShrink: boolean;
  readonly doubt: NonNullable<TrackerOptions['doubt']>;
}

/** Options with their defaults; throws ConfigFault naming what is wrong. */
export function checkOptions(options: TrackerOptions): CheckedOptions {
  const granularityBytes = options.granularityBytes ?? DEFAULT_GRANULARITY_BYTES;
  if (!Number.isInteger(Math.log2(granularityBytes)) || granularityBytes < 4096 || granularityBytes > 1024 * 1024) {
    throw new ConfigFault(
      'wrong-granularity',
      `granularity ${granularityBytes} is not a power of two from 4096 to 1048576`,
    );
  }
  const hotExtents = options.hotExtents ?? DEFAULT_HOT_EXTENTS;
  if (!Number.isInteger(hotExtents) || hotExtents < MIN_HOT_EXTENTS || hotExtents > MAX_HOT_EXTENTS) {
    throw new ConfigFault(
      'wrong-hot-extents',
      `hot extents ${hotExtents} is not in ${MIN_HOT_EXTENTS} … ${MAX_HOT_EXTENTS}`,
    );
  }
  const volumes = options.volumes.map((volume, position) =>
    geometryOf({ ...volume, index: volume.index ?? position }, granularityBytes),
  );
  if (volumes.length === 0) throw new ConfigFault('no-volumes', 'there is no volume to track');
  if (new Set(volumes.map(({ index }) => index)).size < volumes.length) {
    throw new ConfigFault('wrong-volume-index', 'two volumes have the same index');
  }
  if (new Set(volumes.map(({ name }) => name)).size < volumes.length) {
    throw new ConfigFault('wrong-name', 'two volumes have the same name');
  }
  return {
    granularityBytes,
    hotExtents,
    durability: options.durability ?? 'host',
    bootId: options.bootId ?? null,
    volumes,
    isNumberedByName: options.volumes.every(({ index }) => index === undefined),
    mayShrink: options.mayShrink ?? false,
    doubt: options.doubt ?? ((): null => null),
  };
}

export function extentKey(volumeIndex: number, extent: number): number {
  return ((volumeIndex << EXTENT_BITS_IN_KEY) | extent) >>> 0;
}

export function volumeOfKey(key: number): number {
  return key >>> EXTENT_BITS_IN_KEY;
}

export function extentOfKey(key: number): number {
  return key & (2 ** EXTENT_BITS_IN_KEY - 1);
}

/** The number of the extent that holds the byte. */
export function extentAt(offset: number): number {
  return Math.floor(offset / EXTENT_BYTES);
}
