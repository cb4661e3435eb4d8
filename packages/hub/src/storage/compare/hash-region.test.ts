/** Digests of regions, judged against the model of what the volumes hold at exactly that number. */
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { allZero, BlockKind, digestOf, HashedRegion, type HashRegion, type RegionHashes } from '@rephub/protocol';
import { describe, expect, it, test } from 'vitest';
import type { GroupStore, GroupStoreOptions } from '../store-types.js';
import { ScriptedAgent, UNREADABLE } from '../testing/scripted-agent.js';
import { DIRECTORY, openStore, OWNER, pattern } from '../testing/store-kit.js';
import { NumberWaits } from './number-waits.js';

const SIZE = 200_000;
const BLOCK = 4096;
const KEY = Buffer.alloc(16, 3);

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

function world(seed = 1): World {
  const clock = new SimClock();
  const random = new SeededRandomness(seed);
  const files = new SimFiles({ clock, delayMs: () => random.fraction() ** 4 * 3 });
  return { clock, files, randomness: new SeededRandomness(7) };
}

async function opened(on: World, agent: ScriptedAgent, options: Partial<GroupStoreOptions> = {}): Promise<GroupStore> {
  const store = openStore(on, options);
  let done = false;
  const ready = store.then(async (made) => {
    await made.setOwner(OWNER);
    await made.beginLine(agent.line);
    done = true;
    return made;
  });
  await on.clock.runUntil(() => done);
  return await ready;
}

function request(number: number, parts: Partial<HashRegion> = {}): HashRegion {
  return { tag: 1, number, volume: 0, offset: 0, length: SIZE, blockBytes: BLOCK, key: KEY, ...parts };
}

const forEver = (): AbortSignal => new AbortController().signal;

/** Throws when the answer is not what the model holds at that number. */
function expectHashes(asked: HashRegion, answer: RegionHashes, agent: ScriptedAgent, note: string): void {
  const content = agent.modelAt(asked.number).find(({ index }) => index === asked.volume)?.content;
  if (content === undefined) throw new Error(`${note}: the model has no such volume`);
  if (answer.covered === 0) throw new Error(`${note}: the answer speaks of nothing`);
  const region = new HashedRegion(asked, answer);
  for (let block = 0; block * asked.blockBytes < answer.covered; block++) {
    const from = asked.offset + block * asked.blockBytes;
    const expected = content.subarray(from, Math.min(from + asked.blockBytes, asked.offset + answer.covered));
    const bytes = Buffer.from(expected);
    const kind = expected.includes(UNREADABLE)
      ? BlockKind.Unreadable
      : allZero([bytes])
        ? BlockKind.Zero
        : BlockKind.Data;
    if (region.kind(block) !== kind) {
      throw new Error(
        `${note}: at number ${asked.number} block ${block} is ${region.kind(block)} and should be ${kind}`,
      );
    }
    if (kind === BlockKind.Data && !region.hasDigest(block, digestOf(KEY, [bytes]))) {
      throw new Error(`${note}: at number ${asked.number} block ${block} has another digest`);
    }
  }
}

/** Asks until the region is covered, each time at the number at hand. */
async function hashAll(on: World, store: GroupStore, asked: HashRegion, agent: ScriptedAgent): Promise<number> {
  let answers = 0;
  for (let offset = asked.offset; offset < asked.offset + asked.length;) {
    const part = { ...asked, offset, length: asked.offset + asked.length - offset };
    let answer: RegionHashes | null = null;
    const answered = store.hashRegion(part, forEver()).then((hashes) => {
      answer = hashes;
    });
    await on.clock.runUntil(() => answer !== null);
    await answered;
    const hashes = answer as unknown as RegionHashes;
    expectHashes(part, hashes, agent, 'region');
    offset += hashes.covered;
    answers += 1;
  }
  return answers;
}

describe('digests of a region', () => {
  it('answer for one block at least, in however many small pieces the journal holds it', async () => {
    const on = world();
    const agent = new ScriptedAgent();
    const store = await opened(on, agent, { retentionMs: 3_600_000 });
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.spanEnd();
    // As a program that appends a few bytes at a time leaves them.
    for (let at = 0; at < 65_536; at += 10) agent.write(0, at, pattern(Math.min(7, SIZE - at), at));
    agent.sendTo(store);
    await on.clock.runUntil(() => store.progress.durableNumber === agent.lastNumber);
    await hashAll(on, store, request(agent.lastNumber, { blockBytes: 65_536 }), agent);
  });

  it('are of what the hub holds, holes, zeroes, data, unreadable ranges and the short last block', async () => {
    const on = world();
    const agent = new ScriptedAgent();
    const store = await opened(on, agent);
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 5000, pattern(30_000, 1));
    agent.write(0, 60_000, Buffer.alloc(9000));
    agent.zero(0, 100_000, 20_000);
    agent.unreadable(0, 130_000, 100);
    agent.write(0, SIZE - 700, pattern(700, 2));
    agent.sendTo(store);
    expect(await hashAll(on, store, request(agent.lastNumber), agent)).toBe(1);
    agent.spanEnd();
    agent.sendTo(store);
    await on.clock.advance(5000);
    expect(store.state.appliedNumber).toBe(agent.lastNumber);
    await hashAll(on, store, request(agent.lastNumber), agent);
    await hashAll(on, store, request(agent.lastNumber, { offset: 8192, length: 100_000, blockBytes: 65_536 }), agent);
  });

  it('are of exactly the number that was asked for, however records go on and are folded (random, seeded)', async () => {
    for (let seed = 1; seed <= 25; seed++) {
      const on = world(seed);
      const random = new SeededRandomness(seed);
      const below = (limit: number): number => Math.floor(random.fraction() * limit);
      const agent = new ScriptedAgent();
      const store = await opened(on, agent, { retentionMs: seed % 2 === 0 ? 0 : 1000, segmentBytes: 16 * 1024 });
      agent.addVolume(0, 'disk0', SIZE);
      agent.spanBegin();
      agent.spanEnd();
      let waiting = 0;
      const failures: unknown[] = [];
      for (let step = 0; step < 120; step++) {
        const offset = below(SIZE - 5000);
        if (below(20) === 0) agent.spanBegin(below(3));
        else if (below(12) === 0) agent.zero(0, offset, 1 + below(5000));
        else agent.write(0, offset, pattern(1 + below(5000), step));
        if (agent.consistentAt(agent.lastNumber) !== agent.lastNumber && below(4) === 0) agent.spanEnd();
        if (below(3) === 0) {
          const from = below(40) * BLOCK;
          const asked = request(agent.lastNumber, { offset: from, length: Math.min(SIZE - from, 1 + below(60_000)) });
          waiting += 1;
          store
            .hashRegion(asked, forEver())
            .then((answer) => {
              expectHashes(asked, answer, agent, `seed ${seed}`);
            })
            .catch((error: unknown) => failures.push(error))
            .finally(() => {
              waiting -= 1;
            });
        }
        if (below(2) === 0) agent.sendTo(store);
        if (below(4) === 0) await on.clock.advance(below(6));
      }
      agent.sendTo(store);
      await on.clock.runUntil(() => waiting === 0);
      expect(failures, `seed ${seed}`).toEqual([]);
    }
  });

  it('stop short where much would have to be read, and go on from there', async () => {
    const on = world();
    const agent = new ScriptedAgent();
    const big = 12 * 1024 * 1024;
    const store = await opened(on, agent, { segmentBytes: 4 * 1024 * 1024, retentionMs: 3_600_000 });
    agent.addVolume(0, 'disk0', big * 100);
    agent.spanBegin();
    for (let at = 0; at < big; at += 1 << 20) agent.write(0, at, pattern(1 << 20, at));
    agent.sendTo(store, Infinity, 1 << 20);
    const whole = request(agent.lastNumber, { length: big, blockBytes: 65_536 });
    expect(await hashAll(on, store, whole, agent)).toBeGreaterThan(3);
    // The hole behind it is one answer.
    const hole = request(agent.lastNumber, { offset: big, length: big * 90, blockBytes: 65_536 });
    const answer = await store.hashRegion(hole, forEver());
    expect(answer).toMatchObject({ covered: big * 90, runs: [(big * 90) / 65_536, BlockKind.Zero] });
  });

  it('that cannot be read are said to be unreadable, block by block', async () => {
    const on = world();
    const agent = new ScriptedAgent();
    const store = await opened(on, agent);
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.write(0, 0, pattern(SIZE, 5));
    agent.spanEnd();
    agent.sendTo(store);
    await on.clock.advance(5000);
    // The read of all fails, then of those block by block that of the fifth.
    const path = `${DIRECTORY}/base/disk0.raw`;
    on.files.inject({ operation: 'read', path, fault: 'io-error' });
    on.files.inject({ operation: 'read', path, skip: 4, fault: 'io-error' });
    let answer: RegionHashes | null = null;
    void store.hashRegion(request(agent.lastNumber), forEver()).then((hashes) => {
      answer = hashes;
    });
    await on.clock.runUntil(() => answer !== null);
    const region = new HashedRegion(request(1), answer as unknown as RegionHashes);
    expect([3, 4, 5].map((block) => region.kind(block))).toEqual([
      BlockKind.Data,
      BlockKind.Unreadable,
      BlockKind.Data,
    ]);
  });

  test.each<[string, Partial<HashRegion>, string]>([
    ['of a number that has passed', { number: 1 }, 'hash-number'],
    ['of a volume that is not there', { volume: 3 }, 'hash-volume'],
    ['beyond the end of the volume', { offset: BLOCK }, 'hash-range'],
  ])('%s are refused', async (_what, wrong, code) => {
    const on = world();
    const agent = new ScriptedAgent();
    const store = await opened(on, agent);
    agent.addVolume(0, 'disk0', SIZE);
    agent.spanBegin();
    agent.sendTo(store);
    await on.clock.advance(100);
    await expect(store.hashRegion(request(2, wrong), forEver())).rejects.toMatchObject({ code });
  });

  it('that nobody waits for any more are forgotten', async () => {
    const on = world();
    const agent = new ScriptedAgent();
    const store = await opened(on, agent);
    const asked = new AbortController();
    const answer = store.hashRegion(request(77), asked.signal);
    asked.abort();
    await expect(answer).rejects.toMatchObject({ code: 'hash-cancelled' });
  });
});

test('waits are called in the order of their numbers, none before its number, none that was cancelled', () => {
  const waits = new NumberWaits();
  const called: number[] = [];
  const add = (number: number): (() => void) => waits.add(number, () => called.push(number));
  add(5);
  add(3);
  const cancel = add(4);
  add(9);
  cancel();
  expect(waits.lowest).toBe(3);
  waits.reached(2);
  expect(called).toEqual([]);
  waits.reached(6);
  expect(called).toEqual([3, 5]);
  expect(waits.count).toBe(1);
});
