// Whoever is told something by a group's storage and throws: no timer and no turn of another group meets that.
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, expect, it } from 'vitest';
import { SharedMemory } from './shared-memory.js';
import type { GroupStore } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { pattern, startedStore } from './testing/store-kit.js';

let clock: SimClock;
let files: SimFiles;
let agent: ScriptedAgent;
let said: string[];
let store: GroupStore;
const queues = new SharedMemory(64 * 1024);

beforeEach(async () => {
  clock = new SimClock();
  files = new SimFiles({ clock, capacityBytes: 64_000_000 });
  agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', 64 * 1024);
  agent.spanBegin();
  agent.write(0, 0, pattern(4096, 1));
  agent.spanEnd();
  said = [];
  const say = (event: string): void => void said.push(event);
  const log = { debug: () => undefined, info: say, warn: say, error: say };
  const on = { clock, files, randomness: new SeededRandomness(7) };
  const memory = { indexes: new SharedMemory(1 << 20), queues };
  const limits = { retentionMs: 3_600_000, reserveBytes: 1_000_000, journalMaxBytes: 1 << 17 };
  store = await startedStore(on, agent, { ...limits, memory, log });
  await clock.advance(2000);
});

function bug(): never {
  throw new TypeError('a bug');
}

async function leave(bytes: number): Promise<void> {
  const { freeBytes, totalBytes } = await files.room('/');
  files.setCapacity(totalBytes - freeBytes + bytes);
}

it('a look at the room that ends a test ends well, whatever hears of that', async () => {
  const branch = await store.openBranch('try', { scratchBytes: 1 << 20 });
  branch.onOver(bug);
  await leave(900_000);
  await store.lookAtRoom();
  expect(said).toContain('internal-error');
  agent.write(0, 0, pattern(4096, 2));
  agent.sendTo(store);
  await store.settled();
  expect(store.state).toMatchObject({ durableNumber: agent.lastNumber, stalled: null });
  await store.close({ drain: false });
});

it('folding ends, and says so, where a point that it takes away cannot be told', async () => {
  const view = await store.openView();
  view.onExpired(bug);
  for (let round = 0; round < 60; round += 1) agent.write(0, 0, pattern(4096, round));
  agent.sendTo(store);
  await store.settled();
  expect(said).toContain('apply-failed');
  expect(store.state.applyFailed).toContain('a bug');
  expect(store.state).toMatchObject({ durableNumber: agent.lastNumber, stalled: null });
  await view.close();
  await store.close({ drain: false });
});

it('memory that groups share is told of to all of them', async () => {
  store.listener = { progressed: () => undefined, stalled: () => undefined, congested: bug, failed: () => undefined };
  let others = 0;
  const first = queues.open(() => undefined);
  const last = queues.open(() => (others += 1));
  first.use(200 * 1024);
  await clock.advance(10);
  expect(others).toBe(1);
  expect(store.state.stalled).toBe('journal-failed');
  last.close();
  first.close();
  await store.close({ drain: false });
});
