// What the hub exports, seen through our own NBD client: names, points, tests.
import {
  AllocationFlag,
  blockStatus,
  connectNbd,
  flushDevice,
  listExports,
  readBytes,
  trimRange,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { FrameType } from '@rephub/protocol';
import { describe, expect, test } from 'vitest';
import { type HubInProcess, startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

async function hubWithDisk(fill = 1): Promise<{ hub: HubInProcess; agent: ScriptedAgent; disk: Buffer }> {
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  const disk = Buffer.alloc(8 * MIB, fill);
  await agent.protect(new Map([['disk0', disk]]));
  return { hub, agent, disk };
}

async function read(hub: HubInProcess, name: string, offset: number, length: number): Promise<Buffer> {
  const client = await connectNbd(hub.platform, hub.uri(name));
  try {
    return await readBytes(client, offset, length);
  } finally {
    await client.close();
  }
}

describe('a point', () => {
  test('does not move under the reader that opened it, and its description says which it is', async () => {
    const { hub, agent } = await hubWithDisk();
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0'));
    const point = agent.lastNumber;
    await agent.durableUpTo(agent.write(0, Buffer.alloc(4096, 9)));
    expect((await readBytes(client, 0, 4096)).equals(Buffer.alloc(4096, 1))).toBe(true);
    expect(client.description).toContain(`vm1/disk0 at number ${point} of 20`);
    await client.close();
    expect((await read(hub, 'vm1/disk0@latest', 0, 4096)).equals(Buffer.alloc(4096, 9))).toBe(true);
  });

  test('is read-only', async () => {
    const { hub } = await hubWithDisk();
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0'));
    expect(client.abilities.readOnly).toBe(true);
    await expect(writeBytes(client, 0, Buffer.alloc(512))).rejects.toThrow();
    await client.close();
  });

  test('advertises CAN_MULTI_CONN only under a name that cannot move', async () => {
    const { hub, agent } = await hubWithDisk();
    for (const [name, multiConn] of [
      ['vm1/disk0', false],
      ['vm1/disk0@latest', false],
      [`vm1/disk0@seq:${agent.lastNumber}`, true],
    ] as const) {
      const client = await connectNbd(hub.platform, hub.uri(name));
      expect(client.abilities.multiConn, name).toBe(multiConn);
      await client.close();
    }
  });

  test('opened by many clients at once costs the storage one view', async () => {
    const { hub } = await hubWithDisk();
    const clients = await Promise.all(
      Array.from({ length: 8 }, async () => await connectNbd(hub.platform, hub.uri('vm1/disk0'))),
    );
    expect(hub.server.hub.group('vm1').store?.state.openViews).toBe(1);
    await Promise.all(clients.map(async (client) => await client.close()));
    await waitUntil('the view to be closed', () => hub.server.hub.group('vm1').store?.state.openViews === 0);
  });

  test.for([
    ['vm2/disk0', 'there is no group called vm2'],
    ['vm1/disk1', 'disk1'],
    ['vm1', 'is not GROUP/VOLUME'],
    ['vm1/disk0@seq:999999', 'only the latest'],
    ['vm1/disk0@-15m', 'latest or seq:N'],
    ['vm1/disk0!none', 'no open test called none'],
  ])('by the name %s is refused, saying why', async ([name = '', why = '']) => {
    const { hub } = await hubWithDisk();
    await expect(connectNbd(hub.platform, hub.uri(name))).rejects.toThrow(why);
  });

  test('of a group that never finished its first sync is refused with that reason, and not listed', async () => {
    const hub = await startHub(testScope());
    const agent = new ScriptedAgent(hub.platform, hub.agents);
    await agent.begin();
    await expect(connectNbd(hub.platform, hub.uri('vm1/disk0'))).rejects.toThrow('has not finished its first sync');
    expect(await listExports(hub.platform, hub.uri(''))).toEqual([]);
  });
});

test('the list names each volume and each open test', async () => {
  const { hub } = await hubWithDisk();
  await hub.server.hub.group('vm1').openTest({ name: 't1', leaseMs: null, scratchBytes: MIB });
  const listed = await listExports(hub.platform, hub.uri(''));
  expect(listed.map((entry) => entry.name)).toEqual(['vm1/disk0', 'vm1/disk0!t1']);
});

describe('ISOLATE: a test', () => {
  test('takes writes, zeroes and trims that the replica and other tests never see', async () => {
    const { hub, agent } = await hubWithDisk();
    const group = hub.server.hub.group('vm1');
    await group.openTest({ name: 'a', leaseMs: null, scratchBytes: 4 * MIB });
    await group.openTest({ name: 'b', leaseMs: null, scratchBytes: 4 * MIB });
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0!a'));
    expect(client.abilities).toMatchObject({ readOnly: false, multiConn: true });
    await writeBytes(client, 4096, Buffer.alloc(8192, 5));
    await zeroRange(client, 65_536, 65_536);
    await trimRange(client, MIB, MIB);
    await flushDevice(client);
    expect((await readBytes(client, 4096, 8192)).equals(Buffer.alloc(8192, 5))).toBe(true);
    expect((await readBytes(client, 65_536, 65_536)).equals(Buffer.alloc(65_536))).toBe(true);
    // Protection goes on meanwhile, and the test does not see it.
    await agent.durableUpTo(agent.write(0, Buffer.alloc(512, 8)));
    expect((await readBytes(client, 0, 512)).equals(Buffer.alloc(512, 1))).toBe(true);
    await client.close();
    expect((await read(hub, 'vm1/disk0!b', 4096, 8192)).equals(Buffer.alloc(8192, 1))).toBe(true);
    expect((await read(hub, 'vm1/disk0', 4096, 8192)).equals(Buffer.alloc(8192, 1))).toBe(true);
    expect((await read(hub, 'vm1/disk0', 0, 512)).equals(Buffer.alloc(512, 8))).toBe(true);
    await group.tests.drop('a', 'done');
    await group.tests.drop('b', 'done');
    expect(group.status().tests).toEqual([]);
  });

  test('that outgrows its scratch limit ends, and protection does not notice', async () => {
    const { hub, agent } = await hubWithDisk();
    const group = hub.server.hub.group('vm1');
    await group.openTest({ name: 'a', leaseMs: null, scratchBytes: 256 * 1024 });
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0!a'));
    await expect(writeBytes(client, 0, Buffer.alloc(MIB, 5))).rejects.toThrow();
    expect(group.status().tests).toMatchObject([{ name: 'a', clients: 1, over: expect.any(String) as string }]);
    await agent.durableUpTo(agent.write(0, Buffer.alloc(512, 8)));
    await client.close();
  });

  test('tells which ranges are zero rightly, however many pieces its point has', async () => {
    const { hub, agent } = await hubWithDisk(0);
    // One stretch of data of more pieces than one answer to block status looks at.
    for (let offset = 0; offset < 6 * MIB; offset += 4096) agent.write(offset, Buffer.alloc(4096, 6));
    agent.record(FrameType.Discard, { offset: 6 * MIB, length: 2 * MIB });
    await agent.durableUpTo(agent.lastNumber);
    await hub.server.hub.group('vm1').openTest({ name: 'a', leaseMs: null, scratchBytes: MIB });
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0!a'));
    const content = await readBytes(client, 0, 8 * MIB);
    await writeBytes(client, 7 * MIB, content.subarray(7 * MIB, 7 * MIB + 4096));
    for (let at = 0; at < 8 * MIB;) {
      const { runs } = await blockStatus(client, at, 8 * MIB - at, 'base:allocation');
      for (let run = 0; run + 1 < runs.length; run += 2) {
        const length = runs[run] ?? 0;
        const isZero = ((runs[run + 1] ?? 0) & AllocationFlag.Zero) !== 0;
        if (isZero)
          expect(
            content.subarray(at, at + length).every((byte) => byte === 0),
            `at ${at}`,
          ).toBe(true);
        at += length;
      }
    }
    await client.close();
  });

  test('whose owner does not renew its lease is dropped', async () => {
    const { hub } = await hubWithDisk();
    const group = hub.server.hub.group('vm1');
    await group.openTest({ name: 'a', leaseMs: 200, scratchBytes: MIB });
    await waitUntil('the test to go', () => group.tests.names.length === 0);
    await expect(connectNbd(hub.platform, hub.uri('vm1/disk0!a'))).rejects.toThrow('no open test');
  });

  test('that is dropped under its client ends the client’s requests, not the hub', async () => {
    const { hub, agent } = await hubWithDisk();
    const group = hub.server.hub.group('vm1');
    await group.openTest({ name: 'a', leaseMs: null, scratchBytes: MIB });
    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0!a'));
    await group.tests.drop('a', 'an operator said so');
    await expect(readBytes(client, 0, 4096)).rejects.toThrow();
    await client.close();
    await agent.durableUpTo(agent.write(0, Buffer.alloc(512, 8)));
  });

  test('is gone after the hub was started again', async () => {
    const scope = testScope();
    const hub = await startHub(scope);
    const agent = new ScriptedAgent(hub.platform, hub.agents);
    await agent.protect();
    await hub.server.hub.group('vm1').openTest({ name: 'a', leaseMs: null, scratchBytes: MIB });
    await hub.close();
    const again = await startHub(scope, { directory: hub.directory });
    expect(again.server.hub.group('vm1').status().tests).toEqual([]);
    await again.server.hub.group('vm1').openTest({ name: 'a', leaseMs: null, scratchBytes: MIB });
  });
});
