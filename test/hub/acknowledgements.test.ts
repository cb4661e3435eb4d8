// What is received and not yet durable is told where a guest waits for it (semi-sync), and nowhere else (promise ACK).
import { type Ack } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';

const WRITES = 20;

/** The acknowledgements of writes, each made when the one before was durable. */
async function acksOf(agent: ScriptedAgent): Promise<readonly Ack[]> {
  const acks: Ack[] = [];
  for (let at = 0; at < WRITES; at += 1) {
    agent.write(at * 4096, Buffer.alloc(4096, at + 1));
    await agent.until('a durable write', () => {
      if (agent.lastAck !== null && acks.at(-1) !== agent.lastAck) acks.push(agent.lastAck);
      return agent.durable === agent.lastNumber;
    });
  }
  return acks;
}

const early = (acks: readonly Ack[]): number =>
  acks.filter(({ durable }, at) => at > 0 && durable === acks[at - 1]?.durable).length;

test.each(['async', 'sync'] as const)('%s: an acknowledgement tells of something durable', async (mode) => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  agent.report = { ...agent.report, mode };
  await agent.begin({ mode });
  await agent.firstSync();
  expect(early(await acksOf(agent))).toBe(0);
});

test('semi-sync: what is received is told before it is durable', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  agent.report = { ...agent.report, mode: 'semi-sync' };
  await agent.begin({ mode: 'semi-sync' });
  await agent.firstSync();
  expect(early(await acksOf(agent))).toBeGreaterThan(WRITES / 2);
});
