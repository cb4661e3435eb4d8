// How a test ends whose disk is full or fails: everything that was asked of it is answered, and what can be read can be read.
import { type BlockDevice, flushDevice, readBytes, writeBytes } from '@rephub/nbd';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, expect, it } from 'vitest';
import type { Branch, GroupStore } from '../store-types.js';
import { ScriptedAgent } from '../testing/scripted-agent.js';
import { pattern, startedStore } from '../testing/store-kit.js';

const BLOCK = 4096;
const SCRATCH_BYTES = 64 * 1024;
const OWN = /\/branches\/.*(\.seg|spare-\d+)$/;

let clock: SimClock;
let files: SimFiles;
let store: GroupStore;
let branch: Branch;
let disk: BlockDevice;
let over: string[];

beforeEach(async () => {
  clock = new SimClock();
  files = new SimFiles({ clock });
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', 1 << 20);
  agent.spanBegin();
  agent.write(0, 0, pattern(BLOCK, 1));
  agent.spanEnd();
  store = await startedStore({ clock, files, randomness: new SeededRandomness(7) }, agent, { retentionMs: 3_600_000 });
  branch = await store.openBranch('drill', { scratchBytes: SCRATCH_BYTES });
  disk = branch.device('disk0');
  over = [];
  branch.onOver((why) => over.push(why));
});

/** What became of it after a while; `waits` when it has not been answered. */
async function outcome(asked: Promise<unknown>): Promise<string> {
  let known = 'waits';
  asked.then(
    () => (known = 'ok'),
    (error: unknown) => (known = String(error)),
  );
  await clock.advance(5000);
  return known;
}

/** More than its own bytes: it takes no more from then on. */
async function useUp(): Promise<void> {
  await writeBytes(disk, 0, pattern(BLOCK, 2));
  expect(await outcome(writeBytes(disk, BLOCK, pattern(SCRATCH_BYTES, 3)))).toContain('error 28');
  expect(over).toHaveLength(1);
}

async function ended(): Promise<void> {
  await branch.drop();
  await store.close({ drain: false });
}

it('one whose line cannot be stored for want of room takes no writes, and can be read', async () => {
  const full = files.inject({ operation: 'write', path: 'decisions.log', times: Infinity, fault: 'disk-full' });
  expect(await outcome(writeBytes(disk, 0, pattern(BLOCK, 2)))).toContain('error 28');
  expect(over).toEqual([expect.stringContaining('disk-full')]);
  expect(await readBytes(disk, 0, BLOCK)).toEqual(pattern(BLOCK, 1));
  full.remove();
  await ended();
});

it('one that takes no more, and then meets a failed sync, answers the flush that waits, and every later request', async () => {
  await useUp();
  files.inject({ operation: 'sync', path: OWN, fault: 'io-error' });
  expect(await outcome(flushDevice(disk))).toContain('error 5');
  expect(await outcome(flushDevice(disk))).toContain('error 5');
  expect(await outcome(readBytes(disk, 0, BLOCK))).toContain('error 5');
  expect(over).toHaveLength(1);
  await ended();
});

it('one that takes no more, and then meets a full disk, answers what waits for room', async () => {
  await writeBytes(disk, 0, pattern(BLOCK, 2));
  const full = files.inject({ operation: 'write', path: OWN, times: Infinity, fault: 'disk-full' });
  // Queued before its own bytes are used up, in the same turn.
  const queued = outcome(writeBytes(disk, 0, pattern(BLOCK, 4)));
  const refused = outcome(writeBytes(disk, BLOCK, pattern(SCRATCH_BYTES, 3)));
  expect([await refused, await queued]).toEqual([
    expect.stringContaining('error 28'),
    expect.stringContaining('error 28'),
  ]);
  expect(await readBytes(disk, 0, BLOCK)).toEqual(pattern(BLOCK, 2));
  full.remove();
  await ended();
});
