/** Base images that somebody else has written while no hub ran: all is compared before anything is believed (SUPERSET, SPAN). */
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions } from './store-types.js';
import { DIRECTORY, openStore, pattern, startedStore } from './testing/store-kit.js';
import { ScriptedAgent } from './testing/scripted-agent.js';

const SIZE = 64 * 1024;
const BASE = `${DIRECTORY}/base/disk0.raw`;
/** History stays for so long that nothing is folded unless it is asked for. */
const AN_HOUR: Partial<GroupStoreOptions> = { retentionMs: 3_600_000 };

interface World {
  readonly clock: SimClock;
  readonly files: SimFiles;
  readonly randomness: SeededRandomness;
}

let on: World;
let agent: ScriptedAgent;
let store: GroupStore;

beforeEach(async () => {
  const clock = new SimClock();
  on = { clock, files: new SimFiles({ clock }), randomness: new SeededRandomness(7) };
  agent = new ScriptedAgent();
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  agent.write(0, 0, pattern(10_000, 1));
  agent.spanEnd();
  store = await startedStore(on, agent, AN_HOUR);
  await store.drain();
  await clock.advance(1000);
});

/** Somebody writes into the image. */
async function change(): Promise<void> {
  await on.clock.advance(1000);
  const file = await on.files.open(BASE, 'write');
  await file.write([pattern(100, 9)], 512);
  await file.close();
}

async function reopen(): Promise<void> {
  store = await openStore(on, AN_HOUR);
}

function offered(): unknown {
  return { number: store.toHubGroup()?.lastNumber, wantsComparison: store.state.wantsComparison };
}

const nothing = { number: 1, wantsComparison: true };
const all = (): unknown => ({ number: agent.lastNumber, wantsComparison: false });

async function send(): Promise<void> {
  agent.sendTo(store);
  await store.settled();
}

it('an image is as the hub left it, after a stop and after a crash', async () => {
  agent.write(0, 4096, pattern(4096, 2));
  await send();
  await store.close({ drain: false });
  await reopen();
  expect([offered(), store.state.corrupted]).toEqual([all(), null]);
  await store.drain();
  for (const fate of ['keep', 'lose'] as const) {
    on = { ...on, files: on.files.crash({ seed: 3, fate }) };
    await reopen();
    expect([offered(), store.state.corrupted], fate).toEqual([all(), null]);
    agent.write(0, 8192, pattern(4096, 3));
    await send();
    await store.drain();
  }
});

it.each(['stop', 'crash'])('one that was changed after a %s is not believed until a span has ended', async (end) => {
  if (end === 'stop') await store.close({ drain: false });
  else on = { ...on, files: on.files.crash({ seed: 3, fate: 'lose' }) };
  await change();
  await reopen();
  const why = 'the base image of disk0 was changed, or replaced, by somebody else than the hub';
  expect([offered(), store.state.corrupted]).toEqual([nothing, why]);
  // Known as long as it takes, whatever happens to the hub meanwhile.
  await store.close({ drain: false });
  await reopen();
  expect([offered(), store.state.corrupted]).toEqual([nothing, why]);
  agent.spanBegin();
  agent.write(0, 0, pattern(4096, 5));
  await send();
  // The link may be cut: the agent goes on where it was.
  expect([offered(), store.state.corrupted]).toEqual([all(), why]);
  // Another process of the hub does not know what the span is.
  await store.close({ drain: false });
  await reopen();
  expect([offered(), store.state.corrupted]).toEqual([nothing, why]);
  agent.spanBegin();
  agent.spanEnd();
  await send();
  expect([offered(), store.state.corrupted]).toEqual([all(), null]);
  await store.close({ drain: false });
  await reopen();
  expect([offered(), store.state.corrupted]).toEqual([all(), null]);
  agent.write(0, 8192, pattern(4096, 3));
  await send();
  await store.drain();
  await store.close({ drain: false });
  await reopen();
  expect([offered(), store.state.corrupted]).toEqual([all(), null]);
});

it('what was found is not forgotten by a fold before the span has ended', async () => {
  agent.write(0, 4096, pattern(4096, 2));
  await send();
  await store.close({ drain: false });
  await change();
  await reopen();
  await store.drain();
  await store.close({ drain: false });
  await reopen();
  expect(offered()).toEqual(nothing);
});

it('another file in its place is not believed, however old it is', async () => {
  await store.close({ drain: false });
  const bytes = Buffer.alloc(SIZE);
  on.files.look(BASE, bytes, 0);
  await on.files.remove(BASE);
  const file = await on.files.open(BASE, 'create');
  await file.write([bytes], 0);
  await file.sync();
  await file.close();
  await reopen();
  expect(offered()).toEqual(nothing);
});
