import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { inspectState } from './inspect.js';
import { Tracker } from './tracker.js';

const MIB = 1024 * 1024;

async function trackerOn(files: SimFiles): Promise<Tracker> {
  const tracker = await Tracker.open(
    { files, clock: new SimClock(), randomness: new SeededRandomness(1) },
    {
      directory: '/state',
      group: 'vm1',
      hotExtents: 16,
      volumes: [
        { index: 0, name: 'disk0', sizeBytes: 64 * MIB },
        { index: 5, name: 'disk5', sizeBytes: 10 * MIB },
      ],
      hooks: { wantsFlush: () => undefined, failed: () => undefined },
    },
  );
  for (const [index, sizeBytes] of [
    [0, 64 * MIB],
    [5, 10 * MIB],
  ] as const) {
    tracker.numbered(tracker.take(index, 0, sizeBytes), 1, 0);
  }
  tracker.hubDurable(1);
  return tracker;
}

describe('looking at a state directory', () => {
  it('finds nothing where nothing is', async () => {
    expect(await inspectState(new SimFiles(), '/state')).toBeNull();
  });

  it('says what an agent would find, and changes nothing', async () => {
    const files = new SimFiles();
    const tracker = await trackerOn(files);
    await tracker.coolIdle();
    await tracker.activate(0, 9 * MIB, 4096);
    await tracker.close();
    const before = files.changes;
    expect(await inspectState(files, '/state')).toMatchObject({
      identity: { group: 'vm1', session: 1, agentId: tracker.identity.agentId },
      found: 'marked',
      hotExtents: 1,
      volumes: [
        { index: 0, name: 'disk0', sizeBytes: 64 * MIB, markedBytes: 4 * MIB },
        { index: 5, name: 'disk5', sizeBytes: 10 * MIB, markedBytes: 0 },
      ],
    });
    expect(files.changes).toBe(before);
  });

  it('tells clean, distrusted and damaged states apart', async () => {
    const files = new SimFiles();
    await (await trackerOn(files)).closeClean(1);
    expect(await inspectState(files, '/state')).toMatchObject({ found: 'clean', hotExtents: 0 });
    await files.remove('/state/disk5.map');
    expect(await inspectState(files, '/state')).toMatchObject({ found: 'untrusted', volumes: [] });
    const others = new SimFiles();
    const tracker = await trackerOn(others);
    await tracker.distrust('because');
    await tracker.close();
    expect(await inspectState(others, '/state')).toMatchObject({ found: 'untrusted', reason: 'because' });
  });
});
