/**
 * All sequences of up to three operations from a small alphabet on a disk of eight blocks, one soon after the other,
 * each followed by: heal, converge, compare.
 */
import { beforeAll, expect, it } from 'vitest';
import { type Beginning, inStep } from './beginning.js';
import { World } from './kit.js';
import { BLOCK, PAGE } from './pages.js';
import { SEED } from './scripts.js';

const PER_BLOCK = BLOCK / PAGE;

/** Begun, not waited for; what a guest asks for comes back as a promise. `turn` is 0, 1 or 2. */
type Operation = (world: World, turn: number) => Promise<void> | undefined;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  write: ({ guest }, turn) => guest.write((2 * turn + 1) * PER_BLOCK - 2, 4),
  'overlapping write': ({ guest }, turn) => guest.write(PER_BLOCK + turn, 5),
  'write with FUA': ({ guest }, turn) => guest.write(PER_BLOCK - 1 + turn, 2, true),
  flush: ({ guest }) => guest.flush(),
  trim: ({ guest }, turn) => guest.trim(PER_BLOCK - 3 + turn, PER_BLOCK),
  zero: ({ guest }, turn) => guest.zero(PER_BLOCK + 1 + turn, 3),
  'the link is cut': (world) => {
    world.cutLink();
    return undefined;
  },
  'the agent is killed': (world) => {
    world.killAgent();
    return undefined;
  },
  'the hub is killed': (world, turn) => {
    // In the second place its host loses power too.
    if (turn === 1) world.crashHubHost('mixed');
    else world.killHub();
    return undefined;
  },
  'a resync begins': (world) => {
    world.resync();
    return undefined;
  },
};

const NAMES = Object.keys(OPERATIONS);
let beginning: Beginning;

beforeAll(async () => {
  const setting = { volumes: [{ name: 'disk0', sizeBytes: 8 * BLOCK }], agent: { windowBytes: 1 << 20 } };
  beginning = await inStep(setting, [0, 17, 18, 40, 100]);
});

async function play(sequence: readonly string[], seed: number): Promise<void> {
  const world = new World(beginning, seed);
  world.startHub();
  await world.startAgent();
  await world.protected();
  const asked: Promise<void>[] = [];
  for (const [turn, name] of sequence.entries()) {
    const answer = OPERATIONS[name]?.(world, turn);
    if (answer !== undefined) asked.push(answer);
    // Long enough for the next one to come upon this one half done, or done.
    await world.pass(world.random.fraction() ** 3 * 8);
  }
  await world.run(Promise.all(asked));
  await world.converge();
}

function sequencesFrom(first: string): string[][] {
  const pairs = NAMES.map((second) => [first, second]);
  return [[first], ...pairs, ...pairs.flatMap((pair) => NAMES.map((third) => [...pair, third]))];
}

it.each(NAMES)(
  'every sequence that begins with: %s',
  async (first) => {
    const sequences = sequencesFrom(first);
    expect(sequences.length).toBe(111);
    for (const [index, sequence] of sequences.entries()) {
      const seed = SEED + NAMES.indexOf(first) * 1000 + index;
      try {
        await play(sequence, seed);
      } catch (thrown) {
        throw new Error(`${sequence.join(', ')} (REPHUB_CRASH_SEED=${SEED})`, { cause: thrown });
      }
    }
  },
  300_000,
);
