// SIZE: a disk that becomes larger while the agent runs, however it is served: noticed, marked, replicated; the guest that
// is connected goes on with the size it knows, those that come see the new one. All at once: what takes long is waiting
// until somebody looks.
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readBytes, writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { ourClient } from '../kit/nbd-serve.js';
import { nbdkit, qemuNbd, qemuNode, sparseFile } from '../kit/peers.js';
import { must, start } from '../kit/process.js';
import { Qmp } from '../kit/qmp.js';
import { type AgentPlace, compareWithReplica, type HubPlace, startSystem } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 64 * MiB;
const LARGER = 96 * MiB + 512;

interface Told {
  readonly events: readonly { readonly event: string }[];
}

/** As an operator does: the file is made larger; here with something in what is new. */
async function growFile(path: string, toBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.truncate(toBytes);
  await file.write(Buffer.alloc(MiB, 0x77), 0, MiB, size + 4096);
  await file.sync();
  await file.close();
}

async function waitGrown(agent: AgentPlace, toBytes: number): Promise<void> {
  await agent.waitFor('the new size', ({ volumes }) => volumes[0]?.sizeBytes === toBytes);
  await agent.waitUntilProtected();
}

async function expectReplicated(scope: Scope, upstream: string, hub: HubPlace): Promise<void> {
  const { volumes } = await hub.status('vm1');
  expect(volumes[0]?.sizeBytes).toBe(LARGER);
  expect((await compareWithReplica(scope, upstream, hub)).verdict).toBe('same');
}

test.concurrent(
  'a file that is made larger is used so within seconds; a new guest writes there, an old one goes on',
  { timeout: 120_000 },
  async (context) => {
    const scope = testScope(context);
    const disk = await sparseFile(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${disk}`, { hub: { args: ['--retention', '0'] } });
    const old = await ourClient(scope, agent.uri());
    await writeBytes(old, 0, Buffer.alloc(MiB, 1));
    await growFile(disk, LARGER);
    await waitGrown(agent, LARGER);
    const fresh = await ourClient(scope, agent.uri());
    expect([old.sizeBytes, fresh.sizeBytes]).toEqual([SIZE, LARGER]);
    await writeBytes(fresh, LARGER - 4096, Buffer.alloc(4096, 2));
    await writeBytes(old, SIZE - 4096, Buffer.alloc(4096, 3));
    expect((await readBytes(fresh, SIZE + 4096, 4096)).equals(Buffer.alloc(4096, 0x77))).toBe(true);
    await agent.waitUntilProtected();
    await expectReplicated(scope, `file:${disk}`.slice(5), hub);
    expect(agent.child.output).toContain('volume-grown');
    const { events } = (await (await fetch(`http://${hub.http}/api/v1/events`)).json()) as Told;
    expect(events.map(({ event }) => event)).toContain('volume-grown');
    const { lastResync } = await agent.status();
    expect(lastResync?.cause).toMatch(/has grown from 67108864 to 100663808/);
    expect(lastResync?.bytesSent).toBeLessThan(3 * MiB);
    await agent.child.stop();
    await hub.child.stop();
    expect((await stat(hub.baseFile('vm1', 'disk0'))).size).toBe(LARGER);
    await must('cmp', [disk, hub.baseFile('vm1', 'disk0')]);
  },
);

test.concurrent(
  'a server that tells those who ask (nbdkit file) is asked, and its connections are opened anew',
  { timeout: 120_000 },
  async (context) => {
    const scope = testScope(context);
    const disk = await sparseFile(scope, SIZE);
    const server = await nbdkit(scope, ['file', disk]);
    const { hub, agent } = await startSystem(scope, server.uri);
    const guest = await ourClient(scope, agent.uri());
    await writeBytes(guest, 0, Buffer.alloc(MiB, 1));
    await growFile(disk, LARGER);
    await waitGrown(agent, LARGER);
    await writeBytes(guest, MiB, Buffer.alloc(MiB, 2));
    await agent.waitUntilProtected();
    await expectReplicated(scope, server.uri, hub);
  },
);

test.concurrent(
  'a server that is started again over a larger disk (qemu-nbd): seen when it is back',
  { timeout: 120_000 },
  async (context) => {
    const scope = testScope(context);
    const disk = await sparseFile(scope, SIZE);
    const server = await qemuNbd(scope, disk);
    const { hub, agent } = await startSystem(scope, server.uri, { agent: { args: ['--retries', 'forever'] } });
    await growFile(disk, LARGER);
    await server.child.stop();
    const again = await qemuNbd(scope, disk, { at: server.address });
    await waitGrown(agent, LARGER);
    await expectReplicated(scope, again.uri, hub);
  },
);

test.concurrent(
  'the agent or the hub is killed just when it grows: nothing is lost, nothing compared in full',
  { timeout: 180_000 },
  async (context) => {
    const scope = testScope(context);
    const disk = await sparseFile(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${disk}`);
    const guest = await ourClient(scope, agent.uri());
    await writeBytes(guest, 0, Buffer.alloc(MiB, 1));
    await growFile(disk, LARGER - 16 * MiB);
    await agent.child.waitFor('the growth', () => agent.child.output.includes('volume-grown'));
    await agent.child.killHard();
    await agent.start();
    await waitGrown(agent, LARGER - 16 * MiB);
    expect(agent.child.output).not.toContain('marks-not-believed');
    await growFile(disk, LARGER);
    await agent.child.waitFor('the growth', () => agent.child.output.includes('volume-grown'));
    await hub.child.killHard();
    await hub.start();
    await waitGrown(agent, LARGER);
    await expectReplicated(scope, disk, hub);
  },
);

interface Node {
  readonly image: { readonly 'virtual-size': number };
}

test.concurrent(
  'a VM that runs on: QEMU connects anew, and block_resize gives it the new size',
  { timeout: 120_000 },
  async (context) => {
    const scope = testScope(context);
    const disk = await sparseFile(scope, SIZE);
    const { agent } = await startSystem(scope, `file:${disk}`);
    const monitor = join(await tempDir(scope), 'qmp.sock');
    start(scope, 'qemu-system-x86_64', [
      ...['-machine', 'pc', '-accel', 'tcg', '-m', '64', '-nodefaults', '-display', 'none', '-S'],
      ...['-blockdev', qemuNode('disk', agent.address, '', 60), '-device', 'virtio-blk-pci,drive=disk,id=v'],
      ...['-qmp', `unix:${monitor},server=on,wait=off`],
    ]);
    const qmp = await Qmp.connect(monitor);
    const resize = async (): Promise<unknown> =>
      await qmp.execute('block_resize', { 'node-name': 'disk', size: LARGER });
    await growFile(disk, LARGER);
    await waitGrown(agent, LARGER);
    await expect(resize()).rejects.toThrow(/Cannot grow NBD nodes/);
    await agent.child.stop();
    await agent.start();
    // It looks for the agent when it next has something to ask.
    await qmp.execute('human-monitor-command', {
      'command-line': 'qemu-io -d /machine/peripheral/v/virtio-backend "read 0 4k"',
    });
    await resize();
    const nodes = (await qmp.execute('query-named-block-nodes')) as readonly Node[];
    expect(nodes[0]?.image['virtual-size']).toBe(LARGER);
    qmp.close();
  },
);
