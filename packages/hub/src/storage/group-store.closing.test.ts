/** A store that is closed, or could not be opened, has no file open any more: another one may be opened in the same process. */
import { type FileSystem, type OpenFile } from '@rephub/platform';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { BlockKind, HashedRegion } from '@rephub/protocol';
import { beforeEach, expect, it } from 'vitest';
import type { GroupStore, StorePlatform } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { openStore, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 256 * 1024;
const KEPT = { retentionMs: 3_600_000 };

let clock: SimClock;
let disk: SimFiles;
let on: StorePlatform;
/** Paths of the files that are open. */
let open: string[];
let agent: ScriptedAgent;
let store: GroupStore;

/** The same file system, which notes what is open. */
function watched(files: FileSystem): FileSystem {
  const watchedOpen: FileSystem['open'] = async (path, ...how) => {
    const file = await files.open(path, ...how);
    open.push(path);
    return through<OpenFile>(file, {
      close: async () => {
        open.splice(open.indexOf(path), 1);
        await file.close();
      },
    });
  };
  return through<FileSystem>(files, { open: watchedOpen });
}

function through<T extends object>(target: T, instead: Partial<T>): T {
  return new Proxy(target, {
    get(from, name) {
      const own: unknown = Reflect.get(name in instead ? instead : from, name);
      return typeof own === 'function' ? (own.bind(from) as unknown) : own;
    },
  });
}

async function run<T>(work: Promise<T>): Promise<T> {
  let over = false;
  void work.finally(() => (over = true)).catch(() => undefined);
  await clock.runUntil(() => over, 60_000);
  return await work;
}

beforeEach(async () => {
  clock = new SimClock();
  const random = new SeededRandomness(3);
  disk = new SimFiles({ clock, delayMs: (operation) => (operation === 'read' ? 20 : 0) + random.fraction() ** 4 * 3 });
  open = [];
  on = { clock, files: watched(disk), randomness: new SeededRandomness(7) };
  agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  for (let write = 0; write < 12; write += 1) agent.write(0, write * 16_384, pattern(16_000, write + 1));
  agent.spanEnd();
  store = await run(startedStore(on, agent, KEPT));
});

it('also when a comparison is under way: that one ends first, and says nothing of what it could not read', async () => {
  const request = { tag: 1, number: agent.lastNumber, volume: 0, offset: 0, length: SIZE, blockBytes: 4096 };
  const key = Buffer.alloc(16, 3);
  for (const afterMs of [0, 1, 2, 3, 5]) {
    const asked = { ...request, key };
    const hashing = store.hashRegion(asked, new AbortController().signal);
    await clock.advance(afterMs);
    let isHashed = false;
    const hashed = hashing.finally(() => (isHashed = true));
    hashed.catch(() => undefined);
    await run(store.close({ drain: false }));
    expect([isHashed, open]).toEqual([true, []]);
    const answer = await hashed;
    const region = new HashedRegion(asked, answer);
    for (let block = 0; block * 4096 < answer.covered; block += 1) {
      expect(region.kind(block), `block ${block}, closed after ${afterMs} ms`).not.toBe(BlockKind.Unreadable);
    }
    store = await run(openStore(on, KEPT));
  }
});

it('also when a branch cannot be removed, and the next one has nothing of it', async () => {
  const branch = await run(store.openBranch('try', { scratchBytes: SIZE }));
  expect(branch.name).toBe('try');
  disk.inject({ operation: 'sync', path: /decisions/, fault: 'io-error' });
  await run(store.close({ drain: false }));
  expect([open, store.isTrusted]).toEqual([[], false]);
  store = await run(openStore(on, KEPT));
  expect(store.state.branches).toEqual([]);
});

it.each(['open', 'read', 'sync', 'status'] as const)(
  'also when the disk fails any %s of its opening',
  async (operation) => {
    await run(store.close({ drain: false }));
    let failed = 0;
    for (let skip = 0; ; skip += 1) {
      const fault = disk.inject({ operation, path: /^\/data\//, skip, fault: 'no-permission' });
      const outcome = await run(openStore(on, KEPT)).catch(() => null);
      const isOver = fault.hits === 0;
      fault.remove();
      if (outcome === null) failed += 1;
      else await run(outcome.close({ drain: false }));
      expect(open, `with ${operation} ${skip} failing`).toEqual([]);
      if (isOver) break;
    }
    expect(failed).toBeGreaterThan(1);
  },
);
