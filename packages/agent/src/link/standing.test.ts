/** What is noted for the processes to come: the sessions before this one, by which a hub tells an old copy of the state. */
import { Tracker } from '@rephub/bitmap';
import { MAX_EARLIER_SESSIONS } from '@rephub/protocol';
import { type SimPlatform, simPlatform } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { Standing } from './standing.js';

const nonceOf = (session: number): string => `${session.toString(16).padStart(8, '0')}-0000-4000-8000-000000000000`;

/** One process after the other on the same state, each killed, after it has noted its session where it `notes`. */
async function live(platform: SimPlatform, notes: boolean): Promise<Standing> {
  const tracker = await Tracker.open(platform, {
    directory: '/state',
    group: 'vm1',
    granularityBytes: 65_536,
    hotExtents: 16,
    volumes: [{ index: 0, name: 'disk0', sizeBytes: 1 << 20 }],
    hooks: { wantsFlush: () => undefined, failed: () => undefined },
  });
  const standing = new Standing(tracker);
  if (notes) await standing.noteSession(nonceOf(tracker.identity.session));
  return standing;
}

/** What a power cut at this moment leaves of the state. */
const afterCut = (platform: SimPlatform, seed: number): SimPlatform =>
  simPlatform(seed, { files: platform.files.crash({ seed, fate: 'lose' }) });

test('a session that was noted is told by every process after it, newest first, with the beginning of its nonce', async () => {
  let platform = simPlatform(1);
  for (let start = 1; start <= MAX_EARLIER_SESSIONS + 4; start += 1) {
    const { earlierSessions } = await live(platform, true);
    const first = Math.max(1, start - MAX_EARLIER_SESSIONS);
    const expected = Array.from({ length: start - first }, (_, back) => start - 1 - back);
    expect(earlierSessions).toEqual(expected.map((session) => ({ session, nonce: nonceOf(session).slice(0, 8) })));
    platform = afterCut(platform, start);
  }
});

test('a process that never met a hub leaves what was noted before it as it was', async () => {
  let platform = simPlatform(2);
  await live(platform, true);
  for (let start = 0; start < 3; start += 1) {
    platform = afterCut(platform, start);
    const { earlierSessions } = await live(platform, false);
    expect(earlierSessions).toEqual([{ session: 1, nonce: nonceOf(1).slice(0, 8) }]);
  }
});

test('a session is noted once, however often its process comes to a hub', async () => {
  const platform = simPlatform(3);
  const standing = await live(platform, true);
  await standing.noteSession(nonceOf(1));
  const { earlierSessions } = await live(afterCut(platform, 1), false);
  expect(earlierSessions).toHaveLength(1);
});
