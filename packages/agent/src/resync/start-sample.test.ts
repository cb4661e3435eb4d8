/** The sample that a start takes: equal disks cost a moment, a changed one is told before it is compared in full. */
import { writeBytes } from '@rephub/nbd';
import { type Logger, silentLogger } from '@rephub/platform';
import { SeededRandomness } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { StartSample } from './start-sample.js';
import { ModelHub } from '../testing/model-hub.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const MIB = 1024 * 1024;

interface Sampled {
  readonly kit: VolumeKit;
  readonly hub: ModelHub;
  readonly sample: StartSample;
  readonly logged: string[];
  readonly causes: string[];
}

async function prepared(held: Buffer, regions = 64): Promise<Sampled> {
  const kit = await volumeKit();
  const { clock, randomness } = kit.platform;
  await kit.run(writeBytes(kit.upstream, 0, Buffer.alloc(DISK_BYTES, 7)));
  const { mirror, hashes, records, tracker, volume } = kit;
  const hub = new ModelHub({ clock, random: new SeededRandomness(1), mirror, hashes, records, content: held });
  const logged: string[] = [];
  const causes: string[] = [];
  const note = (event: string): void => {
    logged.push(event);
  };
  const log: Logger = { ...silentLogger, info: note, warn: note, error: note };
  const sample = new StartSample({
    clock,
    randomness,
    log,
    volumes: [volume],
    tracker,
    mirror,
    hashes,
    reads: kit.reads,
    regions,
    found: async () => {
      logged.push(`found ${records.length}`);
      await Promise.resolve();
    },
    tell: () => {
      logged.push(`told ${records.length}`);
    },
    compareAll: async (cause) => {
      causes.push(cause);
      kit.comparer.start();
      await mirror.copyEverything(cause);
      mirror.wantSpan();
    },
  });
  return { kit, hub, sample, logged, causes };
}

const isOver = ({ report }: StartSample): boolean => report !== null && report.finishedAt !== null;
const same = (): Buffer => Buffer.alloc(DISK_BYTES, 7);

test('equal disks: nothing is compared in full, and it took a moment', async () => {
  const { kit, sample, causes, logged } = await prepared(same());
  sample.linkUp(false, true);
  await kit.platform.clock.runUntil(() => isOver(sample), 5_000);
  expect(sample.report).toMatchObject({ bytesDiffer: 0, bytesUnknown: 0, cause: 'sample at start' });
  expect(sample.report?.bytesSame).toBeGreaterThan(2 * MIB);
  expect(causes).toEqual([]);
  expect(logged).toEqual(['start-sampled']);
  sample.linkUp(false, true);
  expect(logged).toEqual(['start-sampled']);
});

test('a changed quarter is logged and told, and only then all is compared, so that both are equal again', async () => {
  const held = same();
  held.fill(8, 5 * MIB, 9 * MIB);
  const { kit, hub, sample, causes, logged } = await prepared(held);
  sample.linkUp(false, true);
  await kit.platform.clock.runUntil(() => causes.length > 0, 5_000);
  expect(logged.slice(0, 4)).toEqual(['start-sampled', 'found 0', 'changed-behind', 'told 0']);
  expect(causes[0]).toMatch(/changed behind the agent's back/);
  await kit.platform.clock.runUntil(() => kit.mirror.state === 'streaming' && !kit.tracker.anyDirty());
  expect(hub.at(Infinity).equals(same())).toBe(true);
  expect(kit.ended[0]?.bytesSent).toBe(4 * MIB);
});

test('the superblock alone is enough', async () => {
  const held = same();
  held.writeUInt8(1, 1024 + 0x3a);
  const { kit, causes, sample } = await prepared(held, 1);
  sample.linkUp(false, true);
  await kit.platform.clock.runUntil(() => causes.length > 0, 5_000);
});

test('a session that compares or sends everything needs no sample; with 0 regions there never is one', async () => {
  const all = await prepared(same());
  all.sample.linkUp(true, true);
  all.sample.linkUp(false, true);
  const none = await prepared(same(), 0);
  none.sample.linkUp(false, true);
  await all.kit.platform.clock.advance(5_000);
  await none.kit.platform.clock.advance(5_000);
  expect([all.sample.report, none.sample.report]).toEqual([null, null]);
});

test('an older hub, which cannot tell what it holds, is said once; a newer one is asked later', async () => {
  const { kit, sample, logged } = await prepared(same());
  sample.linkUp(false, false);
  sample.linkUp(false, false);
  expect(logged).toEqual(['start-sample-not-taken']);
  sample.linkUp(false, true);
  await kit.platform.clock.runUntil(() => isOver(sample), 5_000);
});

test('what is marked meanwhile could not be told, and is no difference', async () => {
  const { kit, sample, causes } = await prepared(same());
  kit.upstream.fail(1, 5, Infinity);
  const failing = writeBytes(kit.volume, 0, Buffer.alloc(4096, 1)).catch(() => undefined);
  await kit.run(failing);
  kit.upstream.heal();
  sample.linkUp(false, true);
  await kit.platform.clock.runUntil(() => isOver(sample), 60_000);
  expect(sample.report).toMatchObject({ bytesDiffer: 0 });
  expect(causes).toEqual([]);
  await kit.run(sample.stop());
});
