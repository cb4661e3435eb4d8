// Folds that meet what may pass (file handles, permissions, room) and what never does (a failed sync, a failed device).
import { type LogFields, type Logger } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles, type SimFault, type SimOperation } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectBase, expectView, openStore, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 64 * 1024;

/** A log that lists the events of the applier. */
function listTo(said: string[]): Logger {
  const say = (event: string, fields: LogFields = {}): void => {
    if (event.startsWith('apply-')) said.push(`${event} ${String(fields['why'] ?? '')}`.trim());
  };
  return { debug: () => undefined, info: say, warn: say, error: say };
}

describe('a fold that meets a fault of the disk', () => {
  let clock: SimClock;
  let files: SimFiles;
  let agent: ScriptedAgent;
  let store: GroupStore;
  let said: string[];

  async function started(options: Partial<GroupStoreOptions> = {}): Promise<void> {
    const on = { clock, files, randomness: new SeededRandomness(7) };
    store = await startedStore(on, agent, { log: listTo(said), ...options });
  }

  /** On a disk that takes time. */
  async function meanwhile<T>(doing: Promise<T>): Promise<T> {
    const state = { isOver: false };
    const over = (): void => void (state.isOver = true);
    doing.then(over, over);
    while (!state.isOver) await clock.advance(1);
    return await doing;
  }

  beforeEach(() => {
    clock = new SimClock();
    files = new SimFiles({ clock });
    said = [];
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', SIZE);
    agent.addVolume(1, 'gone', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.write(1, 0, pattern(10_000, 2));
    agent.spanEnd();
  });

  const PASSING: readonly (readonly [string, SimOperation, RegExp, SimFault])[] = [
    ['no file handle for an image', 'open', /\.raw$/, 'too-many-files'],
    ['no file handle for the journal', 'open', /\.seg$/, 'too-many-files'],
    ['no permission to write an image', 'write', /\.raw$/, 'no-permission'],
    ['a quota that is used up', 'write', /\.raw$/, 'quota'],
    ['no permission to store how far it goes', 'write', /applied$/, 'no-permission'],
    ['a file system that is read-only', 'write', /\.raw$/, 'read-only'],
  ];
  it.each(PASSING)(
    '%s: is tried again, says so meanwhile, and ends by itself',
    async (_what, operation, path, fault) => {
      await started();
      if (operation === 'open' && path.test('x.seg')) {
        // More segments than there are handles kept open.
        for (let round = 0; round < 50; round += 1) agent.write(0, 1000 * round, pattern(3500, round));
        await store.close({ drain: false });
        const options = { log: listTo(said), segmentBytes: 8192 };
        store = await openStore({ clock, files, randomness: new SeededRandomness(8) }, options);
        agent.sendTo(store);
        await store.settled();
      }
      const rule = files.inject({ operation, path, times: Infinity, fault });
      await clock.advance(5000);
      expect(store.state.applyFailed).toBeUndefined();
      expect(store.state.applyWaits).toContain(fault);
      expect(said).toEqual([`apply-waits ${fault}`]);
      // Reading and receiving would need handles of the journal's files, too.
      if (operation !== 'open') {
        const view = await store.openView();
        await expectView(view, agent, 'while it waits');
        await view.close();
        agent.write(0, 20_000, pattern(5000, 3));
        agent.sendTo(store);
        await store.settled();
      }
      expect(store.state).toMatchObject({ durableNumber: agent.lastNumber, stalled: null });
      rule.remove();
      await clock.advance(60_000);
      expect(store.state.applyWaits).toBeUndefined();
      expect(store.state.appliedNumber).toBe(agent.lastNumber);
      expect(said).toEqual([`apply-waits ${fault}`, 'apply-goes-on']);
      await store.close({ drain: true });
      await expectBase(files, agent, agent.lastNumber, fault);
    },
  );

  it('a volume whose image cannot be put aside for now is put aside later', async () => {
    await started();
    await clock.advance(3000);
    agent.removeVolume(1);
    agent.sendTo(store);
    await store.settled();
    const rule = files.inject({ operation: 'rename', path: /gone\.raw$/, times: Infinity, fault: 'no-permission' });
    await clock.advance(5000);
    expect(rule.hits).toBeGreaterThan(1);
    expect(store.state.applyWaits).toContain('no-permission');
    rule.remove();
    await clock.advance(60_000);
    expect(store.state.appliedNumber).toBe(agent.lastNumber);
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, 'put aside later');
    expect(await files.list('/data/groups/vm1/base')).toContain(`gone.raw.removed-${agent.lastNumber}`);
  });

  it('NODISCARD: the image of a removed volume holds all that was written to it, wherever the fold is cut short', async () => {
    const expected = Buffer.alloc(SIZE);
    pattern(10_000, 2).copy(expected, 0);
    pattern(9000, 7).copy(expected, 30_000);
    const contentOf = async (disk: SimFiles): Promise<Buffer> => {
      const name = `gone.raw.removed-${agent.lastNumber}`;
      const file = await disk.open(`/data/groups/vm1/base/${name}`, 'read');
      const bytes = Buffer.alloc((await file.status()).sizeBytes);
      await file.read(bytes, 0);
      return bytes;
    };
    await started({ retentionMs: 3_600_000 });
    await store.drain();
    agent.write(1, 30_000, pattern(9000, 7));
    agent.removeVolume(1);
    agent.sendTo(store);
    await store.settled();
    const before = files.changes;
    const image = files.imagineCrash({ seed: 1, fate: 'lose' });
    await store.drain();
    expect((await contentOf(files)).equals(expected)).toBe(true);
    const steps = files.changes - before;
    expect(steps).toBeGreaterThan(5);
    await store.close({ drain: false });
    for (let step = 1; step <= steps; step += 1) {
      const disk = image.imagineCrash({ seed: step, fate: 'keep' }, { clock });
      const on = { clock, randomness: new SeededRandomness(step) };
      const again = await openStore({ ...on, files: disk }, { retentionMs: 3_600_000 });
      disk.crashAt(disk.changes + step);
      await again.drain().catch(() => undefined);
      const after = disk.crash({ seed: step, fate: step % 2 === 0 ? 'lose' : 'mixed' });
      const third = await openStore({ ...on, files: after }, { retentionMs: 3_600_000 });
      await third.drain();
      expect((await contentOf(after)).equals(expected), `step ${step}`).toBe(true);
      await third.close({ drain: false });
    }
  });

  it('names that could not be synced for want of a handle are synced by the next try: put aside, it stays so without power', async () => {
    await started();
    await clock.advance(3000);
    agent.removeVolume(1);
    agent.sendTo(store);
    await store.settled();
    const rule = files.inject({ operation: 'sync-directory', path: /base$/, fault: 'too-many-files' });
    await clock.advance(5000);
    expect(rule.hits).toBe(1);
    expect(store.state.appliedNumber).toBe(agent.lastNumber);
    const after = files.imagineCrash({ seed: 1, fate: 'lose' });
    expect(await after.list('/data/groups/vm1/base')).toContain(`gone.raw.removed-${agent.lastNumber}`);
    await store.close({ drain: false });
  });

  it('is tried again less and less often, and every second for want of room', async () => {
    await started();
    const handles = files.inject({ operation: 'open', path: /\.raw$/, times: Infinity, fault: 'too-many-files' });
    await clock.advance(600_000);
    expect(handles.hits).toBeGreaterThan(8);
    expect(handles.hits).toBeLessThan(20);
    handles.remove();
    const room = files.inject({ operation: 'open', path: /\.raw$/, times: Infinity, fault: 'disk-full' });
    await clock.advance(120_000);
    expect(room.hits).toBeGreaterThan(50);
    await store.close({ drain: false });
  });

  it('for want of room it reads its layer again when there is more of it, or after a minute, not each second', async () => {
    let reads: number | null = null;
    const delayMs = (operation: SimOperation): number => {
      if (reads === null || operation !== 'read') return 0;
      reads += 1;
      // As long as a large layer takes.
      return 1500;
    };
    files = new SimFiles({ clock, delayMs, capacityBytes: 8_000_000 });
    await meanwhile(started({ reserveBytes: 4096 }));
    const filler = await meanwhile(files.open('/filler', 'create'));
    const { freeBytes } = await meanwhile(files.room('/'));
    await meanwhile(filler.allocate(0, freeBytes - 4096));
    reads = 0;
    await clock.advance(10_000);
    expect(store.state.applyWaits).toContain('no space');
    const first = reads;
    await clock.advance(40_000);
    expect([first > 0, reads]).toEqual([true, first]);
    // Should the file system not tell of it (a quota), it is tried nevertheless.
    await clock.advance(60_000);
    expect(reads).toBeGreaterThan(first);
    expect(reads).toBeLessThanOrEqual(4 * first);
    const before = reads;
    await meanwhile(filler.truncate(0));
    await clock.advance(8000);
    expect(reads).toBeGreaterThan(before);
    expect(store.state).toMatchObject({ appliedNumber: agent.lastNumber });
    reads = null;
    await meanwhile(store.close({ drain: true }));
    await meanwhile(expectBase(files, agent, agent.lastNumber, 'room again'));
  });

  it('what kept it is what a drain throws', async () => {
    await started();
    files.inject({ operation: 'open', path: /\.raw$/, times: Infinity, fault: 'too-many-files' });
    await expect(store.close({ drain: true })).rejects.toMatchObject({ code: 'too-many-files' });
  });

  it('nothing is said to wait once there is no reason any more to fold it', async () => {
    files.setCapacity(64_000_000);
    await started({ retentionMs: 3_600_000, reserveBytes: 1_000_000 });
    await clock.advance(3000);
    await store.drain();
    agent.write(0, 20_000, pattern(5000, 3));
    agent.sendTo(store);
    await store.settled();
    const { freeBytes, totalBytes } = await files.room('/');
    files.setCapacity(totalBytes - freeBytes + 900_000);
    files.inject({ operation: 'write', path: /\.raw$/, times: Infinity, fault: 'no-permission' });
    await store.lookAtRoom();
    await clock.advance(1500);
    expect(store.state.applyWaits).toContain('no-permission');
    files.setCapacity(64_000_000);
    await store.lookAtRoom();
    await clock.advance(60_000);
    expect(store.state.applyWaits).toBeUndefined();
    await store.close({ drain: false });
  });

  it('where all was folded, and room could not be made of what that leaves over, it is made a little later', async () => {
    files.setCapacity(64_000_000);
    await started({ retentionMs: 3_600_000, reserveBytes: 1_000_000 });
    await clock.advance(3000);
    await store.drain();
    agent.write(0, 20_000, pattern(5000, 3));
    agent.sendTo(store);
    await store.settled();
    const { freeBytes, totalBytes } = await files.room('/');
    files.setCapacity(totalBytes - freeBytes + 900_000);
    // Twice where it goes, once that it is there; then its older slot is written anew.
    const rule = files.inject({ operation: 'write', path: /applied$/, skip: 3, fault: 'disk-full' });
    await store.lookAtRoom();
    await clock.advance(60_000);
    expect([rule.hits, store.state.appliedNumber]).toEqual([1, agent.lastNumber]);
    expect([store.state.applyWaits, said]).toEqual([undefined, ['apply-waits disk-full', 'apply-goes-on']]);
    await store.close({ drain: false });
  });

  const FINAL: readonly (readonly [string, SimOperation, RegExp, SimFault])[] = [
    ['a failed sync of an image', 'sync', /\.raw$/, 'io-error'],
    ['a sync of an image that fails for want of room', 'sync', /\.raw$/, 'disk-full'],
    ['a sync of `applied` that fails for want of permission', 'sync', /applied$/, 'no-permission'],
    ['a sync of names that fails for want of room', 'sync-directory', /base$/, 'disk-full'],
    ['a write that the device fails', 'write', /\.raw$/, 'io-error'],
    ['a journal that the device does not give', 'read', /\.seg$/, 'io-error'],
  ];
  it.each(FINAL)('%s ends folding until another opening', async (_what, operation, path, fault) => {
    await started();
    const rule = files.inject({ operation, path, fault });
    await clock.advance(120_000);
    expect(rule.hits).toBe(1);
    expect(store.state.applyFailed).toBeDefined();
    expect(store.state.applyWaits).toBeUndefined();
    expect(said).toEqual(['apply-failed']);
    await store.close({ drain: false });
  });
});
