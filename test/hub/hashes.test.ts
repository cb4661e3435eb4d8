// Digests over the link: only where both sides can, of exactly the number that was asked for, and nothing an agent asks
// wrongly gets further than its session (promises UPGRADE, FRAME).
import { digestOf, FrameType, HashedRegion, type HashRegion } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';

const BLOCK = 64 * 1024;
const KEY = Buffer.alloc(16, 5);
const CAN = { features: ['hashes-gmac', 'something-newer'] };

function request(tag: number, number: number, parts: Partial<HashRegion> = {}): HashRegion {
  return { tag, number, volume: 0, offset: 0, length: MIB, blockBytes: BLOCK, key: KEY, ...parts };
}

test('an agent that cannot is offered nothing, asked nothing, and may not ask', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  expect(agent.welcome?.features).toEqual([]);
  const group = hub.server.hub.group('vm1');
  expect(() => group.requestVerify()).toThrow(/too old/);
  expect(() => {
    group.requestResync(false, true);
  }).toThrow(/too old/);
  expect(agent.requests).toEqual([]);
  agent.link.sendControl(FrameType.HashRegion, request(1, agent.lastNumber));
  expect((await agent.ended()).refuse?.code).toBe('unexpected-frame');
});

test('an agent that can is told what of that the hub can too, and asked', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin(CAN);
  expect(agent.welcome?.features).toEqual(['hashes-gmac']);
  await agent.firstSync();
  hub.server.hub.group('vm1').requestVerify();
  hub.server.hub.group('vm1').requestResync(false, true);
  await agent.until('both requests', () => agent.requests.length === 2);
  expect(agent.requests).toEqual(['verify', 'resync-compare']);
});

test('the answer is for the number that was asked for, though newer records came right behind the question', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin(CAN);
  const disk = Buffer.alloc(8 * MIB, 7);
  await agent.firstSync(new Map([['disk0', disk]]));
  const asked: HashRegion[] = [];
  for (let round = 0; round < 20; round++) {
    agent.write(round * 4096, Buffer.alloc(4096, 100 + round));
    const question = request(round + 1, agent.lastNumber);
    asked.push(question);
    agent.link.sendControl(FrameType.HashRegion, question);
  }
  await agent.until('all answers', () => agent.hashes.length === asked.length);
  for (const [round, question] of asked.entries()) {
    disk.fill(100 + round, round * 4096, round * 4096 + 4096);
    const answer = agent.hashes.find(({ tag }) => tag === question.tag)?.hashes;
    if (answer === null || answer === undefined) throw new Error(`round ${round} was refused`);
    const region = new HashedRegion(question, answer);
    for (let block = 0; block < MIB / BLOCK; block++) {
      const bytes = disk.subarray(block * BLOCK, (block + 1) * BLOCK);
      expect(region.hasDigest(block, digestOf(KEY, [bytes])), `round ${round}, block ${block}`).toBe(true);
    }
  }
});

test('what cannot be answered is refused, and the session goes on; too much at once ends it', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin(CAN);
  await agent.firstSync();
  const last = agent.lastNumber;
  agent.link.sendControl(FrameType.HashRegion, request(1, last - 1));
  agent.link.sendControl(FrameType.HashRegion, request(2, last, { volume: 9 }));
  agent.link.sendControl(FrameType.HashRegion, request(3, last, { offset: 8 * MIB }));
  await agent.until('three refusals', () => agent.hashes.length === 3);
  expect(agent.hashes.map(({ refused }) => refused?.code)).toEqual(['hash-number', 'hash-volume', 'hash-range']);
  await agent.durableUpTo(agent.write(0, Buffer.alloc(4096, 1)));
  for (let tag = 10; tag < 50; tag++) agent.link.sendControl(FrameType.HashRegion, request(tag, last + 1000));
  expect((await agent.ended()).refuse?.code).toBe('hash-too-many');
});
