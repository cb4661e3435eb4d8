/** Failover tests while protection goes on: a branch is opened, written to, read back, and dropped (ISOLATE). */
import { viewContents } from './disk-contents.js';
import { readBytes, writeBytes } from '@rephub/nbd';
import { asError, sleep } from '@rephub/platform';
import { type SeededRandomness } from '@rephub/platform/sim';
import { BLOCK_BYTES } from './block-content.js';
import { type World } from './world.js';

/** Operations of tests have numbers from here on: a replica that shows one has not been left alone. */
export const TEST_OPERATIONS = 1_000_000;
const WRITER = 99;
const WRITES = 12;
/** Some stay open for so long at most, and the guest goes on. */
const STAYS_MS = 4000;

export async function runTestBranch(world: World, random: SeededRandomness, opened: () => void): Promise<void> {
  const { group, store, hub } = world;
  if (group === null || store === null || store.progress.consistentNumber === null) return;
  const name = `sim-${random.below(1_000_000)}`;
  const life = hub.starts;
  const still = (): boolean => hub.up !== null && hub.starts === life && world.store === store;
  const isJudged = (): boolean => !world.excuses.hubRotUnseen;
  try {
    const test = await group.openTest({ name, leaseMs: null, scratchBytes: 8 << 20 });
    opened();
    // As of now: records may have come while it was opened.
    const { lastNumber, lastChecksum } = store.state;
    const fold = world.records.foldAt(test.seq, lastNumber, lastChecksum);
    const branch = store.branch(name);
    if (branch === null || fold === null) return;
    for (const { index } of branch.volumes) {
      const expected = fold[index];
      const before = await viewContents(world, branch, index);
      if (!isJudged()) return;
      const same = before.every((content, block) => content === expected?.[block]);
      world.check('ISOLATE', same, () => `test ${name} does not begin with point ${test.seq}`);
    }
    const [volume] = branch.volumes;
    if (volume === undefined) return;
    const device = branch.device(volume.name);
    const written = new Map<number, number>();
    for (let write = 0; write < WRITES; write += 1) {
      const block = random.below(device.sizeBytes / BLOCK_BYTES);
      const bytes = Buffer.alloc(BLOCK_BYTES);
      const operation = TEST_OPERATIONS + write;
      world.contents.fill(bytes, 0, { operation, writer: WRITER, epoch: 0, volume: volume.index, block });
      await writeBytes(device, block * BLOCK_BYTES, bytes, random.chance(0.2));
      const back = await readBytes(device, block * BLOCK_BYTES, BLOCK_BYTES);
      world.check('ISOLATE', back.equals(bytes), () => `test ${name} does not read back what it wrote`);
      written.set(block, operation);
    }
    if (random.chance(0.4)) {
      await sleep(world.clock, random.below(STAYS_MS));
      if (!still() || !isJudged()) return;
      const after = await viewContents(world, branch, volume.index);
      if (!isJudged()) return;
      const same = after.every((content, block) => content === (written.get(block) ?? fold[volume.index]?.[block]));
      world.check('ISOLATE', same, () => `test ${name} does not stay at point ${test.seq} with its own writes`);
    }
    await group.tests.drop(name, 'the end of the test');
    const left = await hub.files.status(`/data/groups/vm1/branches/${name}`);
    world.check('ISOLATE', left === null || !still(), () => `test ${name} was dropped, and its files are there`);
  } catch (thrown) {
    // A full disk ends tests before it ends anything else.
    world.trace.add(`test ${name}: ${asError(thrown).message}`);
  }
}
