import { SimClock } from '@rephub/platform/sim';
import type { AgentReport } from '@rephub/protocol';
import { describe, expect, test } from 'vitest';
import { LastReport } from './last-report.js';

const HEARTBEAT_MS = 1000;

function report(rpoMs: number | null): AgentReport {
  return {
    ...{ state: 'protected', reason: 'in step', mode: 'async', effectiveMode: 'async', rpoMs },
    ...{ lagBytes: 0, dirtyBytes: 0, lastNumber: 10, resync: null, lastResync: null },
  };
}

async function met(): Promise<{ readonly clock: SimClock; readonly agent: LastReport }> {
  const clock = new SimClock();
  await clock.advance(100_000);
  const agent = new LastReport(clock, HEARTBEAT_MS);
  agent.met();
  return { clock, agent };
}

describe('the age of what the newest point lacks (promise RPO)', () => {
  test('is not known before a beat has told of it', async () => {
    const { clock, agent } = await met();
    expect(agent.exposedMs).toBeNull();
    await clock.advance(HEARTBEAT_MS);
    agent.told({ echoMs: 100_500 }, report(null));
    expect(agent.exposedMs).toBeNull();
  });

  test('is what the agent told and the time since the beat that it echoes, whatever the wall clock does', async () => {
    const { clock, agent } = await met();
    await clock.advance(5_000);
    agent.told({ echoMs: 104_000 }, report(300));
    expect(agent.exposedMs).toBe(1_300);
    clock.jumpUnix(-3_600_000);
    await clock.advance(60_000);
    expect(agent.exposedMs).toBe(61_300);
  });

  test('counts from Welcome on where nothing of the session is echoed, or an echo is of another clock', async () => {
    for (const echoMs of [null, 17, 99_999]) {
      const { clock, agent } = await met();
      await clock.advance(2_000);
      agent.told({ echoMs }, report(0));
      expect(agent.exposedMs).toBe(2_000);
    }
  });

  test('is never below zero, though an echo be of the future', async () => {
    const { agent } = await met();
    agent.told({ echoMs: 1e9 }, report(0));
    expect(agent.exposedMs).toBe(0);
  });

  test('is not forgotten when the next process does not know it, nor made worse by one that knows less', async () => {
    const { clock, agent } = await met();
    await clock.advance(1_000);
    agent.told({ echoMs: 101_000 }, report(0));
    await clock.advance(9_000);
    agent.told({ echoMs: 110_000 }, report(null));
    expect(agent.exposedMs).toBe(9_000);
    agent.told({ echoMs: 110_000 }, report(50_000));
    expect(agent.exposedMs).toBe(9_000);
    agent.told({ echoMs: 109_500 }, report(100));
    expect(agent.exposedMs).toBe(600);
  });

  test('is not known of an agent that takes the group over', async () => {
    const { agent } = await met();
    agent.told({ echoMs: 100_000 }, report(0));
    agent.forget();
    expect(agent).toMatchObject({ exposedMs: null, report: null });
  });
});

test('a session that begins is heard, and no report: what was told goes on growing old', async () => {
  const { clock, agent } = await met();
  await clock.advance(1_000);
  agent.told({ echoMs: 100_500 }, report(0));
  await clock.advance(6_000);
  agent.met();
  await clock.advance(500);
  agent.began();
  await clock.advance(860);
  expect(agent.unheardMs).toBe(860);
  expect(agent.silentMs).toBeGreaterThan(6_000);
});
