// A journal that cannot open or make its next segment for now (file handles, permissions), and one whose writes or syncs fail.
import { readBytes, writeBytes } from '@rephub/nbd';
import { type LogFields, type Logger } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles, type SimFault, type SimOperation } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectBase, expectView, openStore, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 64 * 1024;
const KEPT: Partial<GroupStoreOptions> = { retentionMs: 3_600_000, segmentBytes: 16 * 1024 };

/** A log that lists the events of the journal. */
function listTo(said: string[]): Logger {
  const say = (event: string, fields: LogFields = {}): void => {
    if (event.startsWith('journal-')) said.push(`${event} ${String(fields['reason'] ?? '')}`.trim());
  };
  return { debug: () => undefined, info: say, warn: say, error: say };
}

describe('a journal that cannot have its next segment', () => {
  let clock: SimClock;
  let files: SimFiles;
  let agent: ScriptedAgent;
  let store: GroupStore;
  let said: string[];
  let stalls: (string | null)[];

  function listen(): void {
    store.listener = {
      progressed: () => undefined,
      stalled: (reason) => stalls.push(reason),
      congested: () => undefined,
      failed: (fault) => stalls.push(fault.code),
    };
  }

  async function started(options: Partial<GroupStoreOptions> = {}): Promise<void> {
    const on = { clock, files, randomness: new SeededRandomness(7) };
    store = await startedStore(on, agent, { ...KEPT, log: listTo(said), ...options });
    listen();
  }

  /** More than what is left of a segment. */
  function writeOn(): void {
    for (let round = 0; round < 3; round += 1) agent.write(0, 20_000 + 8000 * round, pattern(8000, round + 2));
    agent.sendTo(store);
  }

  beforeEach(() => {
    clock = new SimClock();
    files = new SimFiles({ clock });
    said = [];
    stalls = [];
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.spanEnd();
  });

  const PASSING: readonly (readonly [string, SimOperation, RegExp, SimFault])[] = [
    ['no file handle to make it', 'open', /\/spare-\d+$/, 'too-many-files'],
    ['no permission to make it', 'open', /\/spare-\d+$/, 'no-permission'],
    ['a file system that is read-only', 'open', /\/spare-\d+$/, 'read-only'],
    ['no permission to name it', 'rename', /\/spare-\d+$/, 'no-permission'],
    ['no file handle to sync its name', 'sync-directory', /\/lines\/[^/]+$/, 'too-many-files'],
    ['no file handle to write to it', 'open', /\.seg$/, 'too-many-files'],
  ];
  it.each(PASSING)('%s: acknowledgements stop, and go on by themselves', async (_what, operation, path, fault) => {
    await started();
    const view = await store.openView();
    const rule = files.inject({ operation, path, times: Infinity, fault });
    writeOn();
    await clock.advance(60_000);
    const held = store.state.durableNumber;
    expect(held).toBeLessThan(agent.lastNumber);
    expect(store.state).toMatchObject({ stalled: 'journal-waits', lastNumber: agent.lastNumber });
    expect(store.state.journalWaits).toContain(fault);
    // A session that begins now must not be told that more is durable.
    await store.settled();
    expect(() => store.toHubGroup()).toThrow(expect.objectContaining({ code: 'journal-waits', retryable: true }));
    // Nothing is short on the disk: what is open stays.
    if (operation !== 'open' || !path.test('x.seg')) await expectView(view, agent, 'open meanwhile');
    rule.remove();
    await clock.advance(5000);
    await store.settled();
    expect([stalls, said]).toEqual([
      ['journal-waits', null],
      ['journal-stalled journal-waits', 'journal-goes-on'],
    ]);
    expect(store.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    expect(store.state.journalWaits).toBeUndefined();
    await expectView(view, agent, 'open from before');
    await view.close();
    // All of it is on the disk, once.
    const disk = files.imagineCrash({ seed: 1, fate: 'lose' });
    const after = await openStore({ clock, files: disk, randomness: new SeededRandomness(8) }, KEPT);
    expect(after.state).toMatchObject({ lastNumber: agent.lastNumber, corrupted: null });
    await expectView(await after.openView(), agent, 'after a power cut');
    await after.close({ drain: false });
    await store.close({ drain: true });
    await expectBase(files, agent, agent.lastNumber, fault);
  });

  it('DURABLE: killed or without power while it waits, it lacks nothing that was acknowledged, and the rest is sent again', async () => {
    for (const [what, operation, path, fault] of PASSING) {
      for (const fate of ['lose', 'keep'] as const) {
        files = new SimFiles({ clock });
        await started();
        files.inject({ operation, path, times: Infinity, fault });
        writeOn();
        await clock.advance(3000);
        const { durableNumber } = store.state;
        const disk = files.imagineCrash({ seed: 1, fate });
        const after = await openStore({ clock, files: disk, randomness: new SeededRandomness(8) }, KEPT);
        expect([what, fate, after.state.corrupted]).toEqual([what, fate, null]);
        expect(after.state.lastNumber).toBeGreaterThanOrEqual(durableNumber);
        agent.sendTo(after);
        await after.settled();
        await expectView(await after.openView(), agent, `${what}, ${fate}`);
        await after.close({ drain: false });
        await store.close({ drain: false });
      }
    }
  });

  it('a start that could open its last segment for reading, and then not for writing, waits as well', async () => {
    await started();
    await store.close({ drain: false });
    const on = { clock, files, randomness: new SeededRandomness(8) };
    store = await openStore(on, { ...KEPT, log: listTo(said) });
    listen();
    // Handles that nobody uses are closed.
    const rule = files.inject({
      operation: 'open',
      path: /\.seg$|\/spare-\d+$/,
      times: Infinity,
      fault: 'too-many-files',
    });
    writeOn();
    await clock.advance(5000);
    expect(store.state.stalled).toBe('journal-waits');
    rule.remove();
    await clock.advance(5000);
    expect(store.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    await store.close({ drain: false });
  });

  it('FULL: says what it waits for when that changes: no handle, then no room, then all is well', async () => {
    await started();
    const handles = files.inject({ operation: 'open', path: /\/spare-\d+$/, times: Infinity, fault: 'too-many-files' });
    writeOn();
    await clock.advance(3000);
    handles.remove();
    const room = files.inject({ operation: 'write', path: /\.seg$/, times: Infinity, fault: 'disk-full' });
    await clock.advance(3000);
    expect(store.state.stalled).toBe('disk-full');
    expect(store.state.journalWaits).toBeUndefined();
    room.remove();
    await clock.advance(5000);
    expect(stalls).toEqual(['journal-waits', null, 'disk-full', null]);
    expect(store.state.durableNumber).toBe(agent.lastNumber);
    await store.close({ drain: false });
  });

  it('is closed in order while it waits, and the next start takes the rest from the agent', async () => {
    await started();
    const rule = files.inject({ operation: 'open', path: /\/spare-\d+$/, times: Infinity, fault: 'too-many-files' });
    writeOn();
    await clock.advance(3000);
    await store.close({ drain: false });
    rule.remove();
    const after = await openStore({ clock, files, randomness: new SeededRandomness(8) }, KEPT);
    expect(after.state.corrupted).toBeNull();
    agent.sendTo(after);
    await after.settled();
    await expectView(await after.openView(), agent, 'sent again');
    await after.close({ drain: false });
  });

  it('ISOLATE: writes of a test wait as long, and are answered', async () => {
    await started();
    const branch = await store.openBranch('try', { scratchBytes: 10_000_000 });
    const over: string[] = [];
    branch.onOver((why) => over.push(why));
    const device = branch.device('disk0');
    await writeBytes(device, 0, pattern(8000, 3));
    const rule = files.inject({
      operation: 'open',
      path: /branches.*\/spare-/,
      times: Infinity,
      fault: 'too-many-files',
    });
    let isAnswered = false;
    const written = writeBytes(device, 10_000, pattern(10_000, 4)).then(() => (isAnswered = true));
    await clock.advance(10_000);
    expect([isAnswered, over]).toEqual([false, []]);
    rule.remove();
    await clock.advance(5000);
    await written;
    expect((await readBytes(device, 10_000, 10_000)).equals(pattern(10_000, 4))).toBe(true);
    const again = files.inject({
      operation: 'open',
      path: /branches.*\/spare-/,
      times: Infinity,
      fault: 'too-many-files',
    });
    const dropped = writeBytes(device, 30_000, pattern(10_000, 5));
    dropped.catch(() => undefined);
    await clock.advance(1000);
    await branch.drop();
    await expect(dropped).rejects.toThrow();
    again.remove();
    await store.close({ drain: false });
  });

  const FINAL: readonly (readonly [string, SimOperation, RegExp, SimFault])[] = [
    ['a write of records without permission', 'write', /\.seg$/, 'no-permission'],
    ['a write of records on a read-only file system', 'write', /\.seg$/, 'read-only'],
    ['a failed sync of records', 'sync', /\.seg$/, 'io-error'],
    ['a failed sync of the head of a segment', 'sync', /\/spare-\d+$/, 'io-error'],
    ['a failed sync of its name', 'sync-directory', /\/lines\/[^/]+$/, 'io-error'],
    ['a device that fails to make it', 'open', /\/spare-\d+$/, 'io-error'],
    ['a directory that is gone', 'open', /\/spare-\d+$/, 'not-found'],
  ];
  it.each(FINAL)('%s ends the journal until a restart', async (_what, operation, path, fault) => {
    await started();
    const rule = files.inject({ operation, path, fault });
    writeOn();
    await clock.advance(60_000);
    expect([rule.hits, stalls, store.state.stalled]).toEqual([
      1,
      ['journal-failed', 'journal-failed'],
      'journal-failed',
    ]);
    await store.close({ drain: false });
  });
});
