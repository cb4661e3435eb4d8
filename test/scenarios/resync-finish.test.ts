// There: the link breaks when a resync has ended and the last word of that does not get through; the next resync is not forgotten.
// Here: the hub has the span's end, and its acknowledgement is lost. What the guest writes next is all that is sent.
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, KIB, MIB, protectedCluster, settled, status, write } from './scene.js';
import { loseLastWordOfResync } from './last-word.js';

test('writes after a resync whose end was not acknowledged are sent, and what it had sent is not sent twice', async () => {
  const cluster = await protectedCluster({ linkLatencyMs: 2 });
  await loseLastWordOfResync(cluster);
  const before = copiedBytes(cluster);
  await write(cluster, 9 * MIB, 40 * KIB, 'afterwards');
  await cluster.clock.advance(500);
  cluster.silenceHub(false);
  await settled(cluster);
  expect(status(cluster).hub?.lastVerdict).toBe('L16-resume');
  expect(copiedBytes(cluster)).toBe(before);
  await expectEqual(cluster);
});
