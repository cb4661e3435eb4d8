/** A disk that does not give what it holds, once: nothing may be taken for torn, or gone, for that alone (TORN, NODISCARD). */
import { SeededRandomness, SimClock, SimFiles, type SimOperation } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import type { GroupStore, GroupStoreOptions, StorePlatform } from './store-types.js';
import { ScriptedAgent } from './testing/scripted-agent.js';
import { expectView, openStore, OWNER, pattern, startedStore } from './testing/store-kit.js';

const SIZE = 256 * 1024;

interface World extends StorePlatform {
  readonly clock: SimClock;
  readonly files: SimFiles;
}

function worldOf(clock: SimClock, files: SimFiles): World {
  return { clock, files, randomness: new SeededRandomness(7), codecs: [] };
}

/** A hub with some history, killed; with retention 0 most of it lies in the images. */
async function killed(agent: ScriptedAgent, options: Partial<GroupStoreOptions>): Promise<World> {
  const clock = new SimClock();
  const files = new SimFiles({ clock });
  agent.addVolume(0, 'disk0', SIZE);
  agent.spanBegin();
  for (let write = 0; write < 12; write += 1) agent.write(0, write * 16_384, pattern(16_000, write + 1));
  agent.spanEnd();
  const store = await startedStore(worldOf(clock, files), agent, options);
  await clock.advance(3_000);
  for (let write = 0; write < 5; write += 1) agent.write(0, write * 20_000, pattern(9_000, write + 50));
  agent.sendTo(store);
  await store.settled();
  return worldOf(clock, files.crash({ seed: 1, fate: 'keep' }));
}

async function expectWhole(on: World, agent: ScriptedAgent, options: Partial<GroupStoreOptions>): Promise<void> {
  const store = await openStore(on, options);
  expect(store.state).toMatchObject({ corrupted: null, lastNumber: agent.lastNumber, owner: OWNER });
  const view = await store.openView();
  await expectView(view, agent, 'once the disk gives what it holds');
  await view.close();
  await store.close({ drain: false });
}

describe('a hub whose disk fails a read when it starts', () => {
  it('cuts nothing of the journal: all of it is there at the next start', async () => {
    const agent = new ScriptedAgent();
    const on = await killed(agent, { retentionMs: 3_600_000 });
    // The last segment's frames; its header has been read.
    on.files.inject({ operation: 'read', path: /\.seg$/, skip: 20, fault: 'io-error' });
    const store = await openStore(on, { retentionMs: 3_600_000 });
    expect(store.state.corrupted).toContain('io-error');
    expect(store.state.lastNumber).toBeLessThan(agent.lastNumber);
    await store.close({ drain: false });
    await expectWhole(on, agent, { retentionMs: 3_600_000 });
  });

  it('does not take its decisions for torn', async () => {
    const agent = new ScriptedAgent();
    const on = await killed(agent, { retentionMs: 3_600_000 });
    on.files.inject({ operation: 'read', path: 'decisions.log', fault: 'io-error' });
    await expect(openStore(on)).rejects.toMatchObject({ code: 'io-error' });
    await expectWhole(on, agent, { retentionMs: 3_600_000 });
  });

  const operations: readonly SimOperation[] = ['read', 'open', 'status', 'list'];
  it.each(operations.flatMap((operation) => [0, 3_600_000].map((retentionMs) => ({ operation, retentionMs }))))(
    'has everything at the next start, whichever $operation it is; retention $retentionMs ms',
    async ({ operation, retentionMs }) => {
      const options = { retentionMs };
      for (const fault of operation === 'open' ? (['io-error', 'too-many-files'] as const) : (['io-error'] as const)) {
        let struck = 0;
        for (; ; struck += 1) {
          const agent = new ScriptedAgent();
          const on = await killed(agent, options);
          const injected = on.files.inject({ operation, skip: struck, fault });
          const opened: GroupStore | null = await openStore(on, options).catch(() => null);
          await opened?.close({ drain: false });
          if (injected.hits === 0) break;
          await expectWhole(on, agent, options);
        }
        expect(struck).toBeGreaterThan(0);
      }
    },
  );
});
