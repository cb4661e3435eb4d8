// One agent and the hub, over real sockets and the real storage: what gets in, what is refused, what survives.
import { cp, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connectNbd, readBytes } from '@rephub/nbd';
import { StorageFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { encodeBody, FrameType, PAUSED_FAREWELL } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { type HubInProcess, startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

function pattern(bytes: number, seed: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) buffer.writeUInt32LE((at * 2654435761 + seed * 97) >>> 0, at);
  return buffer;
}

async function readReplica(hub: HubInProcess, name = 'vm1/disk0', offset = 0, length = 8 * MIB): Promise<Buffer> {
  const client = await connectNbd(hub.platform, hub.uri(name));
  try {
    return await readBytes(client, offset, length);
  } finally {
    await client.close();
  }
}

test('a first sync and the writes after it are what the export shows', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  const disk = pattern(8 * MIB, 1);
  expect(await agent.begin()).toMatchObject({ kind: 'first-sync', row: 'L1-unknown-new' });
  await agent.firstSync(new Map([['disk0', disk]]));
  expect((await readReplica(hub)).equals(disk)).toBe(true);
  const change = pattern(4096, 2);
  change.copy(disk, 12_288);
  await agent.durableUpTo(agent.write(12_288, change));
  disk.fill(0, 65_536, 131_072);
  await agent.durableUpTo(agent.record(FrameType.Zero, { offset: 65_536, length: 65_536 }));
  expect((await readReplica(hub)).equals(disk)).toBe(true);
  expect(hub.server.hub.group('vm1').status()).toMatchObject({ seq: agent.lastNumber, durableSeq: agent.lastNumber });
});

test('LASTGOOD: while a span is open the export shows the point before it, afterwards the one at its end', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  const disk = pattern(8 * MIB, 1);
  await agent.protect(new Map([['disk0', disk]]));
  agent.spanBegin('gap', false);
  await agent.durableUpTo(agent.write(0, pattern(MIB, 3)));
  expect((await readReplica(hub, 'vm1/disk0', 0, MIB)).equals(disk.subarray(0, MIB))).toBe(true);
  await waitUntil('a state that is not protected', () => hub.server.hub.group('vm1').status().state === 'catching-up');
  await agent.durableUpTo(agent.record(FrameType.SpanEnd));
  expect((await readReplica(hub, 'vm1/disk0', 0, MIB)).equals(pattern(MIB, 3))).toBe(true);
});

test('after a cut the same process resumes: only what the hub lacks is taken, and nothing twice', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  await agent.durableUpTo(agent.write(0, pattern(4096, 1)));
  agent.cut();
  agent.write(4096, pattern(4096, 2));
  agent.write(8192, pattern(4096, 3));
  expect(await agent.begin()).toMatchObject({ kind: 'resume' });
  await agent.durableUpTo(agent.lastNumber);
  const disk = await readReplica(hub, 'vm1/disk0', 0, 12_288);
  expect(disk.equals(Buffer.concat([pattern(4096, 1), pattern(4096, 2), pattern(4096, 3)]))).toBe(true);
});

test('a newer session of the same agent replaces the older one at once', async () => {
  const hub = await startHub(testScope());
  const first = new ScriptedAgent(hub.platform, hub.agents);
  await first.protect();
  const second = new ScriptedAgent(hub.platform, hub.agents, {
    agentId: first.agentId,
    lineId: first.lineId,
    session: 2,
  });
  second.tracking = 'marked';
  const verdict = await second.begin();
  expect(verdict.kind).toBe('resync-by-bitmap');
  expect((await first.ended()).fault).toBeNull();
  await second.durableUpTo(second.spanBegin('restart', false));
});

test('a seed of a size that the agent has told already is refused at once, not when the agent comes again', async () => {
  const scope = testScope();
  const hub = await startHub(scope);
  const folder = await tempDir(scope);
  const image = async (name: string, sizeBytes: number): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, '');
    await truncate(path, sizeBytes);
    return path;
  };
  const { hub: core } = hub.server;
  await core.seed('vm1', 'disk0', await image('small.raw', 4 * MIB));
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await expect(agent.begin()).rejects.toThrow(/volume disk0: seeded with/);
  const { refuse } = await agent.ended();
  expect(refuse).toMatchObject({ code: 'seed-differs' });
  expect(refuse?.message).toContain(
    `with ${4 * MIB} bytes, the agent's has ${8 * MIB}; 'rephub forget vm1 --yes' takes`,
  );
  const good = await image('good.raw', 8 * MIB);
  await expect(core.seed('vm1', 'disk1', good)).rejects.toMatchObject({ code: 'seed-differs' });
  await expect(core.seed('vm1', 'disk0', await image('other.raw', 16 * MIB))).rejects.toMatchObject({
    code: 'seed-differs',
  });
  expect(core.group('vm1').store?.state.seeds).toEqual([{ volume: 'disk0', sizeBytes: 4 * MIB }]);
});

test('another agent is refused and changes nothing, until an operator enrolls it', async () => {
  const hub = await startHub(testScope());
  const owner = new ScriptedAgent(hub.platform, hub.agents);
  await owner.protect();
  const other = new ScriptedAgent(hub.platform, hub.agents);
  await expect(other.begin()).rejects.toThrow(/belongs to agent/);
  expect((await other.ended()).refuse).toMatchObject({ code: 'foreign-agent', retryAfterMs: null });
  await owner.durableUpTo(owner.write(0, pattern(4096, 9)));

  const group = hub.server.hub.group('vm1');
  await group.enroll();
  expect(group.status().enrolled).toBe(true);
  await expect(other.begin()).rejects.toThrow(/which is connected: stop that one first/);
  expect((await other.ended()).refuse).toMatchObject({ code: 'owner-connected', retryAfterMs: 1000 });
  owner.cut();
  await waitUntil('gone', () => !group.status().agentConnected);
  const disk = pattern(8 * MIB, 5);
  await other.protect(new Map([['disk0', disk]]));
  expect(group.status().enrolled).toBe(false);
  expect((await readReplica(hub)).equals(disk)).toBe(true);
  await expect(owner.begin()).rejects.toThrow(/belongs to agent/);
});

test('who was to be replaced and comes back keeps the group; an operator can take the word back too', async () => {
  const hub = await startHub(testScope());
  const owner = new ScriptedAgent(hub.platform, hub.agents);
  await owner.protect();
  const group = hub.server.hub.group('vm1');
  await group.enroll();
  owner.cut();
  const { agentId, lineId } = owner;
  const again = new ScriptedAgent(hub.platform, hub.agents, { agentId, lineId, session: 2 });
  await again.begin();
  expect(group.status().enrolled).toBe(false);
  again.cut();
  const other = new ScriptedAgent(hub.platform, hub.agents);
  await expect(other.begin()).rejects.toThrow(/belongs to agent/);
  await group.enroll();
  await group.disenroll();
  await expect(new ScriptedAgent(hub.platform, hub.agents).begin()).rejects.toThrow(/belongs to agent/);
});

test('a copied state directory is refused', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents, { session: 7 });
  await agent.protect();
  for (const [session, code] of [
    [6, 'session-back'],
    [7, 'session-copied'],
  ] as const) {
    const copy = new ScriptedAgent(hub.platform, hub.agents, { agentId: agent.agentId, lineId: agent.lineId, session });
    await expect(copy.begin()).rejects.toThrow();
    expect((await copy.ended()).refuse?.code).toBe(code);
  }
  await agent.durableUpTo(agent.write(0, pattern(4096, 1)));
});

test('SIZE: a volume that has shrunk is refused before the first byte is changed', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const before = hub.server.hub.group('vm1').status().seq;
  const shrunk = new ScriptedAgent(hub.platform, hub.agents, {
    agentId: agent.agentId,
    lineId: agent.lineId,
    session: 2,
    volumes: [{ name: 'disk0', sizeBytes: 7 * MIB }],
  });
  await expect(shrunk.begin()).rejects.toThrow(/L8-volumes/);
  expect((await shrunk.ended()).refuse).toMatchObject({ code: 'refuse', retryAfterMs: null });
  expect(hub.server.hub.group('vm1').status().seq).toBe(before);
});

test('SIZE: a volume record that says another size than Hello ends the session', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin();
  agent.record(FrameType.VolumeAdded, { volume: 0, length: 4096 }, [encodeBody({ name: 'disk0' })]);
  expect((await agent.ended()).refuse?.code).toBe('wrong-size');
});

test('a verdict that differs from the hub’s ends the session', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.connect();
  agent.link.sendControl(FrameType.Hello, agent.hello());
  await agent.until('Welcome', () => agent.welcome !== null);
  agent.link.sendControl(FrameType.Start, { verdict: 'nothing-to-do', row: 'L15-equal', firstNumber: 1 });
  expect((await agent.ended()).refuse?.code).toBe('verdict-differs');
  expect(() => hub.server.hub.group('vm1')).toThrow(/no group/);
});

test.for<[string, (agent: ScriptedAgent) => void, string]>([
  ['a record before Hello', (agent) => agent.write(0, Buffer.alloc(512)), 'unexpected-frame'],
  ['a second Hello', (agent) => agent.link.sendControl(FrameType.Hello, agent.hello()), 'unexpected-frame'],
  ['garbage', (agent) => agent.link.send([Buffer.alloc(4096, 0x5a)]), 'frame-magic'],
])('FRAME: %s ends that session only, with its reason and a counter', async ([, act, code]) => {
  const hub = await startHub(testScope());
  const good = new ScriptedAgent(hub.platform, hub.agents);
  await good.protect();
  const bad = new ScriptedAgent(hub.platform, hub.agents, { group: 'other' });
  await bad.connect();
  if (code === 'unexpected-frame') bad.link.sendControl(FrameType.Hello, bad.hello());
  act(bad);
  expect((await bad.ended()).refuse?.code).toBe(code);
  await waitUntil('the counter', () => hub.server.hub.counters.sessionEnds.entries.get(code) === 1);
  await good.durableUpTo(good.write(0, pattern(512, 1)));
});

test('a record whose number was there before ends the session, and the journal stays as it was', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const held = agent.write(0, pattern(512, 1));
  await agent.durableUpTo(held);
  agent.sendAgain(held);
  expect((await agent.ended()).refuse?.code).toMatch(/^record-/);
  expect(hub.server.hub.group('vm1').status().seq).toBe(held);
});

test('several groups at once, each with its own agent, do not mix', async () => {
  const hub = await startHub(testScope());
  const agents = Array.from({ length: 5 }, (_, index) => {
    return new ScriptedAgent(hub.platform, hub.agents, { group: `vm${index}` });
  });
  await Promise.all(agents.map(async (agent, index) => await agent.protect(new Map([['disk0', pattern(MIB, index)]]))));
  for (const [index, agent] of agents.entries()) {
    const seen = await readReplica(hub, `vm${index}/disk0`, 0, MIB);
    expect(seen.equals(pattern(MIB, index))).toBe(true);
    await agent.bye();
  }
  expect(hub.server.hub.groups.map((group) => group.name)).toEqual(['vm0', 'vm1', 'vm2', 'vm3', 'vm4']);
});

test('a remote read asks the agent, and its answer goes into the journal too', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const source = pattern(3 * MIB, 8);
  agent.onReadRegion = ({ tag, offset, length }) => {
    agent.write(offset, source.subarray(offset, offset + length), { flags: 3, tag });
  };
  const answer = await hub.server.hub
    .group('vm1')
    .readRegion({ volume: 'disk0', offset: 1000, length: 2 * MIB, timeoutMs: 5000 });
  expect(answer.bytes.equals(source.subarray(1000, 1000 + 2 * MIB))).toBe(true);
  expect(answer.seq).toBe(agent.lastNumber);
  await agent.durableUpTo(answer.seq);
  expect((await readReplica(hub, 'vm1/disk0', 1000, 2 * MIB)).equals(answer.bytes)).toBe(true);
});

test('a remote read ends when the agent refuses, takes too long, or goes away', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const group = hub.server.hub.group('vm1');
  const ask = (timeoutMs: number) => group.readRegion({ volume: 'disk0', offset: 0, length: 4096, timeoutMs });
  agent.onReadRegion = ({ tag }) =>
    agent.link.sendControl(FrameType.RegionRefused, { tag, code: 'busy', message: 'not now' });
  await expect(ask(5000)).rejects.toMatchObject({ code: 'busy' });
  agent.onReadRegion = () => undefined;
  await expect(ask(50)).rejects.toMatchObject({ code: 'read-timeout' });
  const waiting = ask(5000);
  agent.cut();
  await expect(waiting).rejects.toMatchObject({ code: 'agent-gone' });
  await expect(ask(50)).rejects.toMatchObject({ code: 'agent-not-connected' });
});

test('a remote read does not wait for an answer that the hub cannot take: its disk is full, and it reads nothing', async () => {
  const platform = nodePlatform();
  const disk = { isFull: false };
  const files = new Proxy(platform.files, {
    get: (target, name) => {
      if (name === 'room') {
        return async (path: string) => (disk.isFull ? { freeBytes: 0, totalBytes: 2 ** 40 } : await target.room(path));
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const hub = await startHub(testScope(), { platform: { ...platform, files } });
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const group = hub.server.hub.group('vm1');
  const ask = () => group.readRegion({ volume: 'disk0', offset: 0, length: 4096, timeoutMs: 600_000 });
  disk.isFull = true;
  const before = ask();
  before.catch(() => undefined);
  // More than waits in the journal's queue.
  for (let count = 0; count < 40; count += 1) agent.write(0, pattern(MIB, count));
  await expect(before).rejects.toMatchObject({ code: 'disk-full', retryable: true });
  await expect(ask()).rejects.toMatchObject({ code: 'disk-full' });
  disk.isFull = false;
  await agent.durableUpTo(agent.lastNumber);
  agent.onReadRegion = ({ tag, offset, length }) => {
    agent.write(offset, pattern(length, 9), { flags: 3, tag });
  };
  expect((await ask()).bytes.equals(pattern(4096, 9))).toBe(true);
});

test('what an operator asks for reaches the agent', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  hub.server.hub.group('vm1').requestResync(false);
  hub.server.hub.group('vm1').requestResync(true);
  await agent.until('both requests', () => agent.requests.length === 2);
  expect(agent.requests).toEqual(['resync', 'resync-full']);
});

test('RPO: a silent agent makes the group unknown, a returning one known again', async () => {
  const hub = await startHub(testScope(), { timeoutMs: 600 });
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const group = hub.server.hub.group('vm1');
  await waitUntil('protected', () => group.status().state === 'protected');
  // Between two beats that come late, on a busy machine, the exposure may have grown by the delay.
  await waitUntil('no exposure', () => group.status().rpoSeconds === 0);
  expect(group.status()).toMatchObject({ lagBytes: 0, agentConnected: true });
  agent.cut();
  await waitUntil('unknown', () => group.status().state === 'unknown');
  expect(group.status()).toMatchObject({ rpoSeconds: null, lagBytes: null, agentConnected: false });
  expect(group.status().rpoAtLeastSeconds).toBeGreaterThanOrEqual(0.6);
  await agent.begin();
  await waitUntil('protected again', () => group.status().state === 'protected');
});

test('RPO: a hub that was started again counts from what the agent told the one before, not from its own start', async () => {
  const scope = testScope();
  const hub = await startHub(scope, { timeoutMs: 600 });
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const group = hub.server.hub.group('vm1');
  await waitUntil('protected', () => group.status().state === 'protected' && group.status().rpoSeconds === 0);
  const protectedAt = performance.now();
  agent.cut();
  await waitUntil('unknown', () => group.status().state === 'unknown');
  await waitUntil(
    'remembered',
    async () => (await nodePlatform().files.status(`${hub.directory}/groups/vm1/heard.json`)) !== null,
  );
  // As a kill would leave it: nothing is written on the way out.
  const copy = join(await tempDir(scope), 'data');
  await cp(hub.directory, copy, { recursive: true });
  const again = await startHub(scope, { timeoutMs: 600, directory: copy });
  const seen = again.server.hub.group('vm1').status();
  expect(seen).toMatchObject({ state: 'unknown', rpoSeconds: null, rpoSince: { by: 'last-report' } });
  expect(seen.rpoAtLeastSeconds).toBeGreaterThanOrEqual(0.6);
  expect(seen.rpoAtLeastSeconds).toBeLessThan((performance.now() - protectedAt) / 1000 + 5);
});

test('DURABLE: what was acknowledged is there after the hub was closed and opened again', async () => {
  const scope = testScope();
  const hub = await startHub(scope);
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  const disk = pattern(8 * MIB, 4);
  await agent.protect(new Map([['disk0', disk]]));
  await agent.durableUpTo(agent.write(0, pattern(4096, 6)));
  pattern(4096, 6).copy(disk);
  const { hubId } = hub.server.hub.identity;
  await hub.close();
  expect((await agent.ended()).fault).toBeNull();

  const again = await startHub(scope, { directory: hub.directory });
  expect(again.server.hub.identity.hubId).toBe(hubId);
  expect((await readReplica(again)).equals(disk)).toBe(true);
  expect(again.server.hub.group('vm1').status()).toMatchObject({ state: 'unknown', seq: agent.lastNumber });
});

test('a second hub on the same data is refused', async () => {
  const scope = testScope();
  const hub = await startHub(scope);
  await expect(startHub(scope, { directory: hub.directory })).rejects.toMatchObject({ code: 'data-locked' });
});

test('a forgotten group is gone with its data, and its agent begins again', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  await hub.server.hub.forget('vm1');
  expect(hub.server.hub.groups).toEqual([]);
  expect(await hub.platform.files.list(`${hub.directory}/groups`)).toEqual([]);
  expect((await agent.ended()).fault).toBeNull();
  agent.dropWindow();
  expect(await agent.begin()).toMatchObject({ kind: 'first-sync', row: 'L2-unknown-known' });
});

test('a group that cannot be forgotten stays open, and its agent stays or comes back', async () => {
  const platform = nodePlatform();
  let refused = '';
  const refuse = (path: string): void => {
    if (path.includes(refused)) throw new StorageFault('disk-full', `cannot write ${path}: ENOSPC`);
  };
  const files = new Proxy(platform.files, {
    get: (target, name) => {
      if (name === 'makeDirectory') {
        return async (path: string) => {
          refuse(`make:${path}`);
          await target.makeDirectory(path);
        };
      }
      if (name === 'rename') {
        return async (from: string, to: string) => {
          refuse(`move:${to}`);
          await target.rename(from, to);
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  refused = 'nothing of that name';
  const hub = await startHub(testScope(), { platform: { ...platform, files } });
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect(new Map([['disk0', pattern(8 * MIB, 1)]]));

  refused = `make:${hub.directory}/forgotten`;
  await expect(hub.server.hub.forget('vm1')).rejects.toThrow(/ENOSPC/);
  await agent.durableUpTo(agent.write(0, pattern(4096, 2)));

  refused = `move:${hub.directory}/forgotten`;
  await expect(hub.server.hub.forget('vm1')).rejects.toThrow(/ENOSPC/);
  expect((await agent.ended()).fault).toBeNull();
  expect((await readReplica(hub, 'vm1/disk0', 0, 4096)).equals(pattern(4096, 2))).toBe(true);
  expect(await agent.begin()).toMatchObject({ kind: 'resume' });
  await agent.durableUpTo(agent.write(4096, pattern(4096, 3)));

  refused = 'nothing of that name';
  await hub.server.hub.forget('vm1');
  expect(hub.server.hub.groups).toEqual([]);
});

test('an agent that says goodbye is said to have left until it comes again; one that is cut off has said nothing', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const status = () => hub.server.hub.group('vm1').status();
  await waitUntil('a report', () => status().state === 'protected');
  await agent.bye();
  await waitUntil('the goodbye to be known', () => !status().agentConnected);
  expect(status()).toMatchObject({ state: 'catching-up', reason: 'the agent has left: the script is over' });
  expect(hub.server.hub.events.after(null, 10).at(-1)?.message).toBe('the agent has left: the script is over');
  await agent.begin();
  expect(status().reason).not.toContain('left');
  agent.cut();
  await waitUntil('the cut to be known', () => !status().agentConnected);
  expect(status().reason).toBe('agent not connected');
});

test('what is asked of an agent that was paused says so, and what lets it go on', async () => {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  const group = hub.server.hub.group('vm1');
  await agent.bye(PAUSED_FAREWELL);
  await waitUntil('the pause to be known', () => group.status().reason === 'paused');
  expect(() => {
    group.requestResync(false);
  }).toThrow(/was paused by its operator: `repagent resume`/);
});
