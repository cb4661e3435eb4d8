// ISOLATE and FULL: what is left of a test keeps nothing from going on, and goes as soon as it can.
import { writeBytes } from '@rephub/nbd';
import { type LogFields } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import type { GroupStore } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { DIRECTORY, expectView, openStore, pattern, startedStore } from './testing/store-kit.js';

const BRANCHES = `${DIRECTORY}/branches`;
const SCRATCH = { scratchBytes: 1 << 20 };

describe('a test that is over', () => {
  let clock: SimClock;
  let files: SimFiles;
  let agent: ScriptedAgent;
  let store: GroupStore;
  let said: string[];

  const say = (event: string, { branch }: LogFields = {}): void => void said.push(`${event} ${String(branch)}`);
  const log = { debug: () => undefined, info: say, warn: say, error: say };
  const ofBranches = (): string[] => said.filter((line) => line.startsWith('branch-'));

  async function opened(on = files): Promise<GroupStore> {
    return await openStore({ clock, files: on, randomness: new SeededRandomness(8) }, { retentionMs: 3_600_000, log });
  }

  beforeEach(async () => {
    clock = new SimClock();
    files = new SimFiles({ clock });
    said = [];
    agent = new ScriptedAgent();
    agent.addVolume(0, 'disk0', 64 * 1024);
    agent.spanBegin();
    agent.write(0, 0, pattern(10_000, 1));
    agent.spanEnd();
    const on = { clock, files, randomness: new SeededRandomness(7) };
    store = await startedStore(on, agent, { retentionMs: 3_600_000, log });
    const branch = await store.openBranch('try', SCRATCH);
    await writeBytes(branch.device('disk0'), 0, pattern(4096, 9));
  });

  it('and cannot be removed holds its room and its name until it is gone, and says so', async () => {
    const rule = files.inject({ operation: 'remove', path: /branches/, times: Infinity, fault: 'no-permission' });
    const branch = store.branch('try');
    await expect(branch?.drop()).rejects.toMatchObject({ code: 'no-permission' });
    expect(store.state.branches).toEqual([]);
    const [left] = store.state.leftBehind ?? [];
    expect(left).toMatchObject({ name: 'try', why: expect.stringContaining('no-permission') as string });
    expect(left?.bytes).toBeGreaterThan(4096);
    await expect(store.openBranch('try', SCRATCH)).rejects.toMatchObject({
      code: 'branch-exists',
      message: expect.stringContaining('could not be removed yet') as string,
    });
    const other = await store.openBranch('other', SCRATCH);
    await other.drop().catch(() => undefined);
    await clock.advance(600_000);
    expect(rule.hits).toBeLessThan(40);
    rule.remove();
    await clock.advance(60_000);
    expect(store.state.leftBehind).toBeUndefined();
    expect(await files.list(BRANCHES)).toEqual([]);
    expect(ofBranches()).toEqual([
      'branch-not-removed try',
      'branch-not-removed other',
      'branch-removed try',
      'branch-removed other',
    ]);
    const again = await store.openBranch('try', SCRATCH);
    await expectView(await store.openView(), agent, 'beside another one');
    await again.drop();
    await store.close({ drain: false });
    store = await opened();
    expect(ofBranches()).toHaveLength(4);
    await store.close({ drain: false });
  });

  it('whose end could not be stored leaves its name free, and that is stored later', async () => {
    const rule = files.inject({ operation: 'write', path: 'decisions.log', times: Infinity, fault: 'disk-full' });
    await expect(store.branch('try')?.drop()).rejects.toMatchObject({ code: 'disk-full' });
    expect(store.state).toMatchObject({ branches: [] });
    expect(store.state.leftBehind).toBeUndefined();
    rule.remove();
    await clock.advance(2000);
    const again = await store.openBranch('try', SCRATCH);
    await again.drop();
    await store.close({ drain: false });
    said = [];
    store = await opened();
    expect(said).toEqual([]);
    await store.close({ drain: false });
  });

  it('and that its hub has left behind does not keep the group from being opened', async () => {
    const killed = files.imagineCrash({ seed: 1, fate: 'keep' });
    const rule = killed.inject({ operation: 'remove', path: /branches/, times: Infinity, fault: 'no-permission' });
    const next = await opened(killed);
    expect(next.state.leftBehind).toMatchObject([{ name: 'try', bytes: null }]);
    await expectView(await next.openView(), agent, 'opened beside it');
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(next);
    await next.settled();
    expect(next.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    rule.remove();
    await clock.advance(60_000);
    expect(next.state.leftBehind).toBeUndefined();
    await (await next.openBranch('try', SCRATCH)).drop();
    await next.close({ drain: false });
    await store.close({ drain: false });
  });

  it('FULL: a group whose hub was killed beside it is opened on a disk that takes not a byte more', async () => {
    const killed = files.imagineCrash({ seed: 1, fate: 'keep' });
    const full = ['write', 'allocate'] as const;
    const rules = full.map((operation) => killed.inject({ operation, times: Infinity, fault: 'disk-full' }));
    const next = await opened(killed);
    expect(next.state).toMatchObject({ consistentNumber: agent.lastNumber, branches: [], corrupted: null });
    expect(await killed.list(BRANCHES)).toEqual([]);
    const view = await next.openView();
    await expectView(view, agent, 'on a full disk');
    await view.close();
    agent.write(0, 20_000, pattern(4000, 2));
    agent.sendTo(next);
    await next.settled();
    await clock.advance(5000);
    expect(next.state).toMatchObject({ stalled: 'disk-full', durableNumber: agent.lastNumber - 1 });
    await expectView(await next.openView(), agent, 'while it waits');
    for (const rule of rules) rule.remove();
    await clock.advance(60_000);
    expect(next.state).toMatchObject({ stalled: null, durableNumber: agent.lastNumber });
    await (await next.openBranch('try', SCRATCH)).drop();
    await next.close({ drain: true });
    said = [];
    await (await opened(killed)).close({ drain: false });
    expect(said).toEqual([]);
    await store.close({ drain: false });
  });
});
