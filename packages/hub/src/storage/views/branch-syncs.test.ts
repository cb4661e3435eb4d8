import { type BlockDevice, flushDevice, readBytes, writeBytes } from '@rephub/nbd';
import type { FileSystem, OpenFile } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Branch, GroupStore } from '../store-types.js';
import { ScriptedAgent } from '../testing/scripted-agent.js';
import { pattern, startedStore } from '../testing/store-kit.js';

const SIZE = 32 * 1024 * 1024;
const BLOCK = 4096;

let store: GroupStore;
let branch: Branch;
let disk: BlockDevice;
/** Syncs of the test's own files that have begun, and what the next ones wait for. */
let syncs = 0;
let held: Promise<void> | null = null;

beforeEach(async () => {
  const clock = new SimClock();
  const files: FileSystem = new SimFiles({ clock });
  const watched: FileSystem = new Proxy(files, {
    get: (target, name) => {
      if (name !== 'open') {
        const member: unknown = Reflect.get(target, name, target);
        return typeof member === 'function' ? (member as () => unknown).bind(target) : member;
      }
      return async (...args: Parameters<FileSystem['open']>) => watchedFile(await files.open(...args), args[0]);
    },
  });
  const agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(BLOCK, 1));
  agent.spanEnd();
  const on = { clock, files: watched, randomness: new SeededRandomness(7) };
  store = await startedStore(on, agent, { segmentBytes: 8 * 1024 * 1024 });
  branch = await store.openBranch('drill', { scratchBytes: 2 * SIZE });
  disk = branch.device('disk0');
  // The first write makes the line.
  await writeBytes(disk, 0, pattern(BLOCK, 2));
  syncs = 0;
});

afterEach(async () => {
  held = null;
  await branch.drop();
  await store.close({ drain: false });
});

function watchedFile(file: OpenFile, path: string): OpenFile {
  if (!path.includes('/branches/')) return file;
  const sync = file.sync.bind(file);
  file.sync = async () => {
    syncs += 1;
    if (held !== null) await held;
    await sync();
  };
  return file;
}

it('what a test writes is synced when it flushes, once, and not before', async () => {
  for (let block = 1; block <= 50; block += 1) await writeBytes(disk, block * BLOCK, pattern(BLOCK, block));
  expect(syncs).toBe(0);
  await flushDevice(disk);
  expect(syncs).toBe(1);
  await flushDevice(disk);
  expect(syncs).toBe(1);
  expect((await readBytes(disk, 50 * BLOCK, BLOCK)).equals(pattern(BLOCK, 50))).toBe(true);
});

it('a flush, and a write with FUA, are answered when the sync is through', async () => {
  for (const send of [
    async () => {
      await writeBytes(disk, BLOCK, pattern(BLOCK, 3));
      await flushDevice(disk);
    },
    () => writeBytes(disk, BLOCK, pattern(BLOCK, 4), true),
  ]) {
    let letGo = (): void => undefined;
    held = new Promise((resolve) => (letGo = resolve));
    const before = syncs;
    let answered = false;
    const sent = send().then(() => (answered = true));
    while (syncs === before) await new Promise((resolve) => setImmediate(resolve));
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(answered).toBe(false);
    letGo();
    await sent;
  }
});

it('a segment that is full is synced before the next one begins', async () => {
  for (let at = 0; at < 20 * 1024 * 1024; at += 1024 * 1024) await writeBytes(disk, at, pattern(1024 * 1024, 5));
  // Segments of 8 MiB: two have ended, and each that began has had its header synced.
  expect(syncs).toBe(4);
});
