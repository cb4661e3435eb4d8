/** What the disks and the replica show, block by block, as ids (block-content.ts). */
import { type BlockDevice, DeviceError, isZeroes, NbdError, readSlices } from '@rephub/nbd';
import { type SimFiles } from '@rephub/platform/sim';
import { BLOCK_BYTES, UNREADABLE } from './block-content.js';
import { type View } from './hub-types.js';
import { type World } from './world.js';

const READ_BYTES = 1024 * 1024;
const oneBlock = Buffer.alloc(BLOCK_BYTES);

/** What upstream holds as readers see it, zeroes beyond its end; with `stable` what a power cut would leave at least. `files` is the agent's disk. */
export function upstreamContents(world: World, files: SimFiles = world.agent.files, stable = false): Int32Array[] {
  return world.setup.volumes.map(({ name, largestBlocks, upstream }, index) => {
    const disk = world.disks.get(name);
    if (upstream === 'file' || disk === undefined)
      return fileContents(world, files, `/${name}.raw`, index, largestBlocks);
    return disk.ids(stable, (bytes, at, block) => world.contents.identify(bytes, at, index, block));
  });
}

/** What the base images hold, each with zeroes beyond its end. */
export function baseContents(world: World, directory: string): Int32Array[] {
  return world.setup.volumes.map(({ name, largestBlocks }, index) =>
    fileContents(world, world.hub.files, `${directory}/${name}.raw`, index, largestBlocks),
  );
}

/** The id of one block upstream; null while it cannot be told. */
export function upstreamBlock(world: World, volume: number, block: number): number | null {
  const { name, upstream } = world.setup.volumes[volume] ?? { name: '', upstream: 'file' };
  oneBlock.fill(0);
  if (upstream === 'file') world.agent.files.look(`/${name}.raw`, oneBlock, block * BLOCK_BYTES);
  else if (world.upstream.up === null) return null;
  else world.disks.get(name)?.bytes.copy(oneBlock, 0, block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
  return world.contents.identify(oneBlock, 0, volume, block);
}

/** Everything that an open point, or a branch, shows of a volume: so many blocks as it has there. */
export async function viewContents(world: World, view: Pick<View, 'device'>, volume: number): Promise<Int32Array> {
  const device = view.device(world.setup.volumes[volume]?.name ?? '');
  const size = device.sizeBytes;
  const contents = new Int32Array(size / BLOCK_BYTES);
  for (let at = 0; at < size; at += READ_BYTES) {
    const length = Math.min(READ_BYTES, size - at);
    const slices = await readRange(device, at, length);
    if (slices === 'unreadable') await readBlocks(world, device, at, length, volume, contents);
    else identifySlices(world, slices, at, volume, contents);
  }
  return contents;
}

/** Block by block: some of them cannot be read. */
async function readBlocks(
  world: World,
  device: BlockDevice,
  offset: number,
  length: number,
  volume: number,
  contents: Int32Array,
): Promise<void> {
  for (let at = offset; at < offset + length; at += BLOCK_BYTES) {
    const slices = await readRange(device, at, BLOCK_BYTES);
    if (slices === 'unreadable') contents[at / BLOCK_BYTES] = UNREADABLE;
    else identifySlices(world, slices, at, volume, contents);
  }
}

/** Slices end where they like; most end with a block. */
function identifySlices(
  world: World,
  slices: readonly Buffer[],
  offset: number,
  volume: number,
  contents: Int32Array,
): void {
  const isWhole = slices.every((slice) => slice.length % BLOCK_BYTES === 0);
  let block = offset / BLOCK_BYTES;
  for (const slice of isWhole ? slices : [Buffer.concat(slices)]) {
    const end = block + slice.length / BLOCK_BYTES;
    if (isZeroes(slice)) block = end;
    for (let at = 0; block < end; at += BLOCK_BYTES, block += 1) {
      contents[block] = world.contents.identify(slice, at, volume, block);
    }
  }
}

/** A block is a page of the file: what is not there is zeroes. */
function fileContents(world: World, files: SimFiles, path: string, volume: number, blocks: number): Int32Array {
  const contents = new Int32Array(blocks);
  files.seen(path)?.eachPage((block, page, isSettled) => {
    if (block < blocks) contents[block] = world.contents.identifyPage(page, isSettled, volume, block);
  });
  return contents;
}

async function readRange(
  device: BlockDevice,
  offset: number,
  length: number,
): Promise<readonly Buffer[] | 'unreadable'> {
  try {
    return await readSlices(device, offset, length);
  } catch (fault) {
    // A point or branch that is gone, with its hub or by itself, says nothing about the content.
    if (fault instanceof DeviceError && fault.nbdError !== NbdError.Eshutdown) return 'unreadable';
    throw fault;
  }
}
