/**
 * Crash points: a short script is cut at the 1st, 2nd, … n-th change of the disk; what the disk then holds, with
 * unsynced changes kept, lost, torn or garbled, is opened, judged against the model, and the script goes on.
 */
import { writeBytes } from '@rephub/nbd';
import type { BlockCodec } from '@rephub/platform';
import { nodeCodecs } from '@rephub/platform/node';
import {
  type CrashFate,
  SeededRandomness,
  SimClock,
  SimFiles,
  type SimOperation,
  simPlatform,
  SimProcess,
} from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectBase, expectView, openStore, OWNER, pattern } from './testing/store-kit.js';
import type { GroupStore, StorePlatform } from './store-types.js';

interface World extends StorePlatform {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
  readonly codecs: readonly BlockCodec[];
}

function world(files?: SimFiles, clock = new SimClock()): World {
  return { clock, files: files ?? new SimFiles({ clock }), randomness: new SeededRandomness(7), codecs: nodeCodecs() };
}

const SIZE = 48 * 1024;

/** Everything that an agent sends in the script, made beforehand: [the records up to here, virtual time to pass]. */
function makeAgent(codecs: readonly BlockCodec[]): { agent: ScriptedAgent; steps: number[] } {
  const agent = new ScriptedAgent(undefined, codecs);
  const steps: number[] = [];
  const step = (): void => {
    steps.push(agent.lastNumber);
  };
  agent.addVolume(0, 'disk0', SIZE);
  agent.addVolume(1, 'disk1', 8192);
  step();
  agent.spanBegin();
  agent.write(0, 0, pattern(6000, 1));
  agent.write(1, 0, pattern(3000, 2));
  agent.zero(0, 10_000, 2000);
  step();
  agent.unreadable(0, 30_000, 1000);
  agent.spanEnd();
  step();
  for (let round = 0; round < 3; round += 1) {
    agent.write(0, round * 5000, pattern(4000, 10 + round));
    agent.write(1, round * 512, pattern(700, 20 + round));
    agent.zero(0, round * 9000, 1500, true);
    step();
  }
  agent.spanBegin(5);
  agent.write(0, 2000, pattern(9000, 30));
  step();
  agent.write(0, 30_200, pattern(300, 31));
  agent.spanEnd();
  step();
  for (let part = 0; part < 6; part += 1) agent.write(1, part * 100, pattern(4000, 40 + part));
  agent.flush(0);
  step();
  return { agent, steps };
}

interface Outcome {
  /** What was told to be durable. */
  durable: number;
  begun: boolean;
}

async function run(
  on: StorePlatform,
  agent: ScriptedAgent,
  steps: readonly number[],
  outcome: Outcome,
  closes = true,
): Promise<void> {
  let store: GroupStore | null = null;
  const opened = await openStore(on, { segmentBytes: 8192 });
  store = opened;
  opened.listener = {
    progressed(_received, durable) {
      outcome.durable = Math.max(outcome.durable, durable);
    },
    stalled: () => undefined,
    congested: () => undefined,
    failed: () => undefined,
  };
  await opened.setOwner(OWNER);
  await opened.beginLine(agent.line);
  outcome.begun = true;
  for (const upTo of steps) {
    if (upTo <= opened.state.lastNumber) continue;
    agent.sendTo(opened, upTo);
    await opened.settled();
    if (opened.state.stalled !== null) throw new Error('the disk has crashed');
    if (opened.state.consistentNumber !== null && upTo % 2 === 0) {
      const branch = await opened.openBranch('try', { scratchBytes: 100_000 });
      await writeBytes(branch.device('disk0'), 0, pattern(2000, 99), true);
      await branch.drop();
    }
    await pause(on);
  }
  if (closes) await store.close({ drain: true });
}

/** Long enough for the applier to go to work, which paces itself. */
async function pause(on: StorePlatform): Promise<void> {
  await new Promise<void>((resolve) => {
    on.clock.after(1100, resolve);
  });
}

async function judge(on: World, agent: ScriptedAgent, outcome: Outcome, note: string): Promise<GroupStore> {
  const store = await openStore(on, { segmentBytes: 8192 });
  const { state } = store;
  if (state.corrupted !== null) throw new Error(`${note}: ${state.corrupted}`);
  if (outcome.begun && state.line === null) throw new Error(`${note}: the line is lost`);
  if (state.lastNumber < outcome.durable) {
    throw new Error(`${note}: DURABLE: ${outcome.durable} was acknowledged, ${state.lastNumber} is there`);
  }
  const consistent = agent.consistentAt(state.lastNumber);
  if (state.consistentNumber !== consistent) {
    throw new Error(`${note}: LASTGOOD: ${state.consistentNumber} can be opened, expected ${consistent}`);
  }
  if (consistent !== null) {
    const view = await store.openView();
    await expectView(view, agent, note);
    await view.close();
  }
  return store;
}

/** With operations that take time the clock must go on for anything to happen. */
async function drive<T>(on: World, work: Promise<T>): Promise<T> {
  let settled = false;
  const end = (): void => {
    settled = true;
  };
  work.then(end, end);
  await on.clock.runUntil(() => settled);
  return await work;
}

/** How long operations of the disk take: now this is faster, now that. */
function uneven(seed: number): (operation: SimOperation) => number {
  const randomness = new SeededRandomness(seed);
  return (operation) => randomness.fraction() ** 3 * (operation === 'sync' ? 20 : 2);
}

async function crashEverywhere(
  fate: CrashFate,
  stride: number,
  delays: (at: number) => (operation: SimOperation) => number,
  codecs: readonly BlockCodec[] = [],
): Promise<number> {
  const { agent, steps } = makeAgent(codecs);
  for (let at = 1 + (stride >> 1); ; at += stride) {
    const clock = new SimClock();
    const files = new SimFiles({ clock, delayMs: delays(at) });
    const before = world(files, clock);
    files.crashAt(at);
    const outcome: Outcome = { durable: 0, begun: false };
    try {
      await drive(before, run(before, agent, steps, outcome));
      return files.changes;
    } catch (error) {
      // The disk is gone; what was said before that counts. A fault of the test itself must not pass for a crash.
      if (!files.crashed) throw error;
    }
    const note = `crash at change ${at}, fate ${fate}`;
    const on = world(files.crash({ seed: at * 31 + 7, fate }), clock);
    const store = await drive(on, judge(on, agent, outcome, note));
    // A second crash at once, before anything new: recovery itself must be repeatable.
    const twice = world(on.files.crash({ seed: at, fate }), clock);
    await drive(
      on,
      store.close({ drain: false }).catch(() => undefined),
    );
    const again = await drive(twice, judge(twice, agent, outcome, `${note}, then again`));
    await drive(twice, again.close({ drain: false }));
    await drive(twice, run(twice, agent, steps, outcome));
    await drive(twice, expectBase(twice.files, agent, agent.lastNumber, `${note}, gone on to the end`));
  }
}

/** Killed at a step; the next process finds what is in the cache, and at once or later the power goes: how often. */
async function killEverywhere(fate: CrashFate, goesOn: boolean): Promise<number> {
  const { agent, steps } = makeAgent([]);
  for (let at = 1; ; at += 1) {
    const clock = new SimClock();
    const files = new SimFiles({ clock, delayMs: uneven(at) });
    const process = new SimProcess(simPlatform(7, { clock, files }));
    const over = { killed: false, done: false };
    process.killAtStep(at, () => (over.killed = true));
    const outcome: Outcome = { durable: 0, begun: false };
    void run(process.platform, agent, steps, outcome).then(() => (over.done = true));
    await clock.runUntil(() => over.killed || over.done);
    if (over.done) return at - 1;
    const note = `killed at step ${at}, then power is lost, fate ${fate}`;
    const on = world(files, clock);
    const store = await drive(on, judge(on, agent, outcome, note));
    const found: Outcome = { durable: store.state.lastNumber, begun: store.state.line !== null };
    if (goesOn) {
      await drive(on, store.close({ drain: false }));
      await drive(on, run(on, agent, steps, found, false));
    }
    const after = world(files.crash({ seed: at, fate }), clock);
    const again = await drive(after, judge(after, agent, found, note));
    await drive(after, again.close({ drain: false }));
  }
}

describe('group store, crashed at every change of the disk', () => {
  // `mixed` draws a fate for each change; the pure ones find what a mixture hides, on a part of the points each.
  it.each([
    ['have fates of all kinds', 'mixed', 2],
    ['are lost', 'lose', 5],
    ['are kept', 'keep', 6],
    ['are torn', 'tear', 7],
    ['are garbled', 'garble', 8],
  ] as const)(
    'DURABLE, TORN, LASTGOOD: with unsynced changes that %s',
    async (_what, fate, stride) => {
      const changes = await crashEverywhere(fate, stride, () => () => 0);
      expect(changes).toBeGreaterThan(100);
    },
    60_000,
  );

  it('DURABLE, TORN, LASTGOOD: with a disk that writes on while it syncs', async () => {
    expect(await crashEverywhere('mixed', 1, uneven)).toBeGreaterThan(100);
  }, 60_000);

  it.each([
    ['lose', false],
    ['mixed', false],
    ['garble', false],
    ['lose', true],
  ] as const)(
    'DURABLE: what a process finds that follows a killed one is stable, whatever that left in the cache: fate %s, it goes on: %s',
    async (fate, goesOn) => {
      expect(await killEverywhere(fate, goesOn)).toBeGreaterThan(500);
    },
    60_000,
  );

  it('DURABLE, TORN, LASTGOOD: with records that are compressed', async () => {
    expect(await crashEverywhere('mixed', 2, () => () => 0, nodeCodecs())).toBeGreaterThan(100);
  }, 60_000);
});
