// There: the end of a resync is missed, no bit is left; no second resync may come of that.
// Here: the same for a span, whether the agent goes on or is started anew (then at most what was hot is compared).
import { expect, test } from 'vitest';
import { copiedBytes, expectEqual, protectedCluster, settled, status } from './scene.js';
import { loseLastWordOfResync } from './last-word.js';

test('the same agent resumes: nothing is sent again', async () => {
  const cluster = await protectedCluster({ linkLatencyMs: 2 });
  await loseLastWordOfResync(cluster);
  const before = copiedBytes(cluster);
  cluster.silenceHub(false);
  await settled(cluster);
  expect(status(cluster).hub?.lastVerdict).toMatch(/^L1(5-equal|6-resume)$/);
  expect(copiedBytes(cluster)).toBe(before);
  await expectEqual(cluster);
});

test('an agent that was stopped meanwhile has marks left, for nobody told it: they are compared, and none differs', async () => {
  const cluster = await protectedCluster({ linkLatencyMs: 2 });
  await loseLastWordOfResync(cluster);
  await cluster.stopAgent();
  cluster.silenceHub(false);
  await cluster.startAgent();
  await settled(cluster);
  expect(copiedBytes(cluster)).toBe(0);
  await expectEqual(cluster);
});
