// Online verification with real processes: three results by exit code; a replica spoiled on purpose is found, told, and
// only then repaired.
import { expect, test } from 'vitest';
import { open } from 'node:fs/promises';
import { command } from '../kit/commands.js';
import { filledDisk } from '../kit/filled-disk.js';
import { startLoad } from '../kit/load.js';
import { compareWithReplica, startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;
const SIZE = 64 * MiB;
const BLOCK = 64 * 1024;
const AT = 37 * MiB + 4096;

interface Told {
  readonly events: readonly { readonly id: number; readonly event: string; readonly message: string }[];
}

test(
  'a replica spoiled on the hub’s disk: verify exits 1 and names the place, the resync that follows heals it, verify exits 0',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const disk = await filledDisk(scope, SIZE);
    const { hub, agent } = await startSystem(scope, `file:${disk}`, {
      hub: { args: ['--retention', '0'] },
      agent: { args: ['--verify-rate', 'none'] },
    });
    const verify = ['verify', 'vm1', '--http', hub.http] as const;
    expect(await command('rephub', verify)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^same\ndisk0: same, \d+ MiB\n/) as string,
    });
    const { seq } = await hub.status('vm1');
    await hub.waitFor('vm1', 'all to be in the image', ({ appliedSeq }) => (appliedSeq ?? 0) >= seq);
    const image = await open(hub.baseFile('vm1', 'disk0'), 'r+');
    const byte = Buffer.alloc(1);
    await image.read(byte, 0, 1, AT);
    await image.write(Buffer.from([(byte[0] ?? 0) ^ 0x10]), 0, 1, AT);
    await image.close();
    expect((await compareWithReplica(scope, disk, hub)).verdict).toBe('differs');

    const found = await command('rephub', [...verify, '--json']);
    expect(found.code).toBe(1);
    expect(JSON.parse(found.stdout)).toMatchObject({
      outcome: 'differs',
      bytesSame: SIZE - BLOCK,
      bytesDiffer: BLOCK,
      differs: [{ volume: 'disk0', offset: 37 * MiB, length: BLOCK }],
      volumes: [{ name: 'disk0', bytesTotal: SIZE, bytesSame: SIZE - BLOCK, bytesDiffer: BLOCK }],
    });
    const healed = await agent.waitFor('the resync that follows', ({ state, lastResync }) => {
      return state === 'protected' && lastResync?.cause.startsWith('verify: volume disk0 differs') === true;
    });
    expect(healed.lastResync?.bytesSent).toBe(BLOCK);
    expect((await compareWithReplica(scope, disk, hub)).verdict).toBe('same');
    const { events } = (await (await fetch(`http://${hub.http}/api/v1/events`)).json()) as Told;
    expect(events.map(({ event }) => event)).toEqual(expect.arrayContaining(['verify-differs', 'verify-ended']));
    expect(agent.child.output).toContain('verify-differs');
    expect(await (await fetch(`http://${hub.http}/metrics`)).text()).toMatch(
      /rephub_group_verify_differs_bytes\{group="vm1"\} 65536/,
    );
    expect(await command('repagent', ['verify', '--state', agent.stateDir])).toMatchObject({ code: 0 });
  },
);

test('a verification while the guest writes finds no difference that is not there', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await filledDisk(scope, SIZE);
  const { hub, agent } = await startSystem(scope, `file:${disk}`);
  const running = await startLoad(scope, agent.uri(), {
    sizeBytes: SIZE,
    seconds: 6,
    ratePerSecond: 1500,
  });
  for (let round = 0; round < 3; round += 1) {
    expect(await command('rephub', ['verify', 'vm1', '--http', hub.http])).toMatchObject({ code: 0 });
  }
  expect((await running.finished()).errors).toBe(0);
  await agent.waitUntilProtected();
  expect((await hub.status('vm1')).verify).toMatchObject({ bytesSame: SIZE, bytesDiffer: 0, bytesUnknown: 0 });
});

test('without an agent, or with one that leaves, nothing can be told: exit 75', { timeout: 120_000 }, async () => {
  const scope = testScope();
  const disk = await filledDisk(scope, SIZE);
  const { hub, agent } = await startSystem(scope, `file:${disk}`, { agent: { args: ['--verify-rate', '4MiB'] } });
  const verifying = command('repagent', ['verify', '--state', agent.stateDir]);
  await agent.waitFor('a verification under way', (status) => (status.verify?.bytesSame ?? 0) > 0);
  await hub.child.killHard();
  const left = await verifying;
  expect(left.code).toBe(75);
  expect(left.stdout).toMatch(/could not tell/);
  await agent.child.stop();
  await hub.start();
  expect((await command('rephub', ['verify', 'vm1', '--http', hub.http])).code).toBe(75);
});
