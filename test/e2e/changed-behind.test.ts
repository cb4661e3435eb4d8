// LINEAGE: a disk that was changed while no agent was between (a VM booted without it, a snapshot reverted). A server's
// export does not tell; a sample compared with the hub at each start does.
import { expect, test } from 'vitest';
import { filledDisk } from '../kit/filled-disk.js';
import { qemuNbd } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { compareWithReplica, startSystem, type System } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 64 * MiB;

interface Told {
  readonly events: readonly { readonly event: string }[];
}

async function overServer(scope: Scope): Promise<System & { readonly upstream: string }> {
  const server = await qemuNbd(scope, await filledDisk(scope, SIZE));
  return { ...(await startSystem(scope, server.uri)), upstream: server.uri };
}

/** Past the agent, through the server that it uses. */
async function changeBehind(upstream: string, ...writes: readonly string[]): Promise<void> {
  await must('qemu-io', ['-f', 'raw', ...writes.flatMap((write) => ['-c', `write ${write}`]), upstream]);
}

async function eventsOf(http: string): Promise<string[]> {
  const { events } = (await (await fetch(`http://${http}/api/v1/events`)).json()) as Told;
  return events.map(({ event }) => event);
}

test(
  'a quarter changed behind the agent’s back is found at the next start, told, and compared in full',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const { hub, agent, upstream } = await overServer(scope);
    await agent.child.stop();
    await changeBehind(upstream, '-P 0x5a 21M 16M');
    await agent.start();
    const healed = await agent.waitFor('the comparison of everything', ({ state, lastResync }) => {
      return state === 'protected' && lastResync?.cause.includes("changed behind the agent's back") === true;
    });
    expect(healed.lastResync).toMatchObject({ bytesSent: 16 * MiB, bytesCompared: SIZE });
    expect(agent.child.output).toContain('changed-behind');
    expect(await eventsOf(hub.http)).toContain('changed-behind');
    expect((await compareWithReplica(scope, upstream, hub)).verdict).toBe('same');
  },
);

test('one sector of a superblock is enough, also when the agent was killed before', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const { hub, agent, upstream } = await overServer(scope);
  // An orderly end first: what the first sync marked is cleared on disk then, and only a sample can find the change.
  await agent.child.stop();
  await agent.start();
  await agent.child.waitFor('the sample', () => agent.child.output.includes('start-sampled'));
  await agent.waitUntilProtected();
  await agent.child.killHard();
  await changeBehind(upstream, `-P 0x5a ${MiB + 1024} 512`, '-P 0x5a 50M 1M');
  await agent.start();
  await agent.waitFor('the comparison of everything', ({ state, lastResync }) => {
    return state === 'protected' && lastResync?.cause.includes("changed behind the agent's back") === true;
  });
  expect((await compareWithReplica(scope, upstream, hub)).verdict).toBe('same');
});

test('an unchanged disk costs a sample: nothing is compared in full, nothing sent', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const { hub, agent } = await overServer(scope);
  await agent.child.stop();
  const { seq } = await hub.status('vm1');
  await agent.start();
  await agent.child.waitFor('the sample', () => agent.child.output.includes('start-sampled'));
  await agent.waitUntilProtected();
  expect(agent.child.output).not.toContain('changed-behind');
  expect((await hub.status('vm1')).seq).toBe(seq);
});

test('a file tells by its change time: log line and event say so', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const file = await filledDisk(scope, SIZE);
  const { hub, agent } = await startSystem(scope, `file:${file}`);
  await agent.child.stop();
  await must('qemu-io', ['-f', 'raw', '-c', 'write -P 0x5a 21M 64k', file]);
  await agent.start();
  const healed = await agent.waitFor('the comparison of everything', ({ state, lastResync }) => {
    return state === 'protected' && lastResync?.bytesCompared === SIZE;
  });
  expect(healed.lastResync?.bytesSent).toBe(64 * 1024);
  expect(agent.child.output).toMatch(/changed-behind .*disk0/);
  const { events } = (await (await fetch(`http://${hub.http}/api/v1/events`)).json()) as {
    readonly events: readonly { readonly event: string; readonly level: string; readonly message: string }[];
  };
  const told = events.filter(({ event }) => event === 'changed-behind');
  expect(told).toMatchObject([{ level: 'error' }]);
  expect(told[0]?.message).toContain(file);
});
