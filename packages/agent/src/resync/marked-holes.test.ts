import { writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { markedHoles, stillMarkedBytes } from './marked-holes.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const MIB = 1024 * 1024;

/** Data in the first MiB and in the last three, the rest a hole; all is marked. */
async function sparse(): Promise<VolumeKit> {
  const kit = await volumeKit({ windowBytes: 64 * MIB });
  await kit.run(writeBytes(kit.upstream, 0, Buffer.alloc(MIB, 1)));
  await kit.run(writeBytes(kit.upstream, DISK_BYTES - 3 * MIB, Buffer.alloc(3 * MIB, 2)));
  await kit.run(kit.mirror.copyEverything('test'));
  return kit;
}

test('of what is marked, holes are told by asking, and counted as far as they are marked still', async () => {
  const { run, tracker, volume } = await sparse();
  const holes = await run(markedHoles([volume], tracker, () => true));
  expect(stillMarkedBytes(holes, tracker)).toBe(DISK_BYTES - 4 * MIB);
  tracker.take(0, 0, 3 * MIB);
  expect(stillMarkedBytes(holes, tracker)).toBe(DISK_BYTES - 6 * MIB);
  expect(await run(markedHoles([volume], tracker, () => false))).toEqual([]);
});

test('a resync tells its holes apart from what it reads, before it has come to them', async () => {
  const kit = await sparse();
  kit.mirror.wantSpan();
  // The answer comes while the copies are on their way: at no moment does it say less than what is done.
  await kit.platform.clock.runUntil(() => kit.ended.length > 0);
  expect(kit.ended[0]).toMatchObject({
    bytesDone: DISK_BYTES,
    holeBytesDone: DISK_BYTES - 4 * MIB,
    holeBytesTotal: DISK_BYTES - 4 * MIB,
    bytesSent: 4 * MIB,
  });
});

test('where upstream tells of no holes, all is data', async () => {
  const kit = await volumeKit({ abilities: { contexts: [] } });
  await kit.run(kit.mirror.copyEverything('test'));
  kit.mirror.wantSpan();
  await kit.platform.clock.runUntil(() => kit.ended.length > 0);
  expect(kit.ended[0]).toMatchObject({ bytesDone: DISK_BYTES, holeBytesDone: 0, holeBytesTotal: 0 });
});
