// CORRUPT: a state directory that is in use, foreign, broken or no directory is said to be so, and nothing is lost.
import { cp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { compareFiles } from '../kit/contents.js';
import { sparseFile } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { AgentPlace, HubPlace, startSystem } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const MiB = 1 << 20;

/** A disk with something on it. */
async function disk(scope: Scope): Promise<string> {
  const file = await sparseFile(scope, 16 * MiB);
  await must('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', 'count=2', 'seek=3', 'conv=notrunc', 'status=none']);
  return file;
}

test('in use: a second agent on it is refused, the first goes on', { timeout: 60_000 }, async () => {
  const scope = testScope();
  const { agent } = await startSystem(scope, `file:${await disk(scope)}`);
  const second = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `file:${await disk(scope)}` }],
    stateDir: agent.stateDir,
  });
  await expect(second.start()).rejects.toThrow(/state/);
  expect(second.child.output).toContain(agent.stateDir);
  expect(second.child.exit?.code).toBeGreaterThan(0);
  await agent.waitUntilProtected();
});

test("foreign: another group's is refused, and is still good for its own", { timeout: 60_000 }, async () => {
  const scope = testScope();
  const file = await disk(scope);
  const { agent, hub } = await startSystem(scope, `file:${file}`);
  await agent.child.stop();
  const other = await AgentPlace.prepare(scope, {
    group: 'vm2',
    volumes: [{ name: 'disk0', upstream: `file:${file}` }],
    stateDir: agent.stateDir,
    hubUrl: hub.url,
  });
  await expect(other.start()).rejects.toThrow(/vm1/);
  await agent.start();
  expect((await agent.waitUntilProtected()).counters['copiedBytes']).toBe(0);
});

test('a file instead of a directory, or a directory of something else, is refused and left as it is', async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  const upstream = `file:${await disk(scope)}`;
  await writeFile(join(dir, 'file'), 'mine');
  const onFile = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream }],
    stateDir: join(dir, 'file'),
  });
  await expect(onFile.start()).rejects.toThrow(/ended with code 2 /);
  expect(onFile.child.output).toContain(join(dir, 'file'));
  expect(await command('rephub', ['serve', '--data', join(dir, 'file'), '--http', '127.0.0.1:0'])).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--data: .*file/) as string,
  });
  expect(await readFile(join(dir, 'file'), 'utf8')).toBe('mine');
});

test('a directory of a hub, or of somebody else, is refused by its name and left as it is, by the hub too', async () => {
  const scope = testScope();
  const { agent, hub } = await startSystem(scope, `file:${await disk(scope)}`);
  const upstream = `file:${await disk(scope)}`;
  const args = ['run', '--group', 'vm2', '--upstream', upstream, '--listen', 'nbd://127.0.0.1:0'];
  // Both are in use: what they are is more to the point than that.
  const onHub = await command('repagent', [...args, '--state', hub.dataDir]);
  expect(onHub).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`${hub.dataDir} is the data directory of a rephub`) as string,
  });
  const onAgent = await command('rephub', ['serve', '--data', agent.stateDir, '--http', '127.0.0.1:0']);
  expect(onAgent).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`${agent.stateDir} is the state directory of a repagent`) as string,
  });
  const home = await tempDir(scope);
  for (const name of ['bin', 'etc', 'photos', 'usr']) await writeFile(join(home, name), 'theirs');
  const refused = await command('repagent', [...args, '--state', home]);
  expect(refused).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`${home} holds bin, etc, photos, … and no state of repagent`) as string,
  });
  expect(await readdir(home)).toEqual(['bin', 'etc', 'photos', 'usr']);
  await agent.waitUntilProtected();
});

test('what people keep beside a state does no harm: configuration, sockets, logs, the disk itself', async () => {
  const scope = testScope();
  const dir = await tempDir(scope);
  for (const name of ['vm1.yaml', 'agent.log', 'agent.log.1.gz', 'vm1.pid', '.hidden', 'disk.raw', 'lost+found']) {
    await writeFile(join(dir, name), '');
  }
  const volumes = [{ name: 'disk0', upstream: `file:${await disk(scope)}` }];
  const agent = await AgentPlace.prepare(scope, { volumes, stateDir: dir });
  await agent.start();
  expect((await agent.child.stop()).code).toBe(0);
});

test(
  'a directory that the file system does not take is refused, and not tried for ever',
  { timeout: 20_000 },
  async () => {
    const scope = testScope();
    const args = ['run', '--group', 'vm1', '--upstream', `file:${await disk(scope)}`, '--listen', 'nbd://127.0.0.1:1'];
    const refused = await command('repagent', [...args, '--state', '/proc/rephub'], { timeoutMs: 10_000 });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--state: cannot make directory /proc/rephub: /proc takes no directories');
  },
);

test(
  'corrupt: any of its files spoiled or lost means compare everything, never clean',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const file = await disk(scope);
    const hub = await HubPlace.prepare(scope, { args: ['--retention', '0s'] });
    await hub.start();
    const agent = await AgentPlace.prepare(scope, {
      volumes: [{ name: 'disk0', upstream: `file:${file}` }],
      hubUrl: hub.url,
    });
    await agent.start();
    await agent.waitUntilProtected();
    await agent.child.stop();
    const good = join(await tempDir(scope), 'good');
    await cp(agent.stateDir, good, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    const names = (await readdir(good)).filter((name) => !['lock', 'identity'].includes(name));
    expect(names.length).toBeGreaterThan(1);
    for (const name of names) {
      for (const harm of ['spoiled', 'lost'] as const) {
        // Changed behind the agent's back: only comparing everything finds it.
        await must('dd', [
          'if=/dev/urandom',
          `of=${file}`,
          'bs=64k',
          'count=1',
          'seek=100',
          'conv=notrunc',
          'status=none',
        ]);
        const path = join(agent.stateDir, name);
        if (harm === 'lost') await rm(path);
        else await spoil(path);
        await agent.start();
        await agent.waitUntilProtected();
        expect(agent.child.output, `${name} ${harm}`).toMatch(/untrusted|corrupt|compare/i);
        expect((await agent.child.stop()).code).toBe(0);
      }
    }
    expect((await hub.child.stop()).code).toBe(0);
    expect(await compareFiles(file, hub.baseFile('vm1', 'disk0'))).toEqual({ verdict: 'same', said: '' });
  },
);

/** Garbage over all of it: no copy in the file is left good. */
async function spoil(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.alloc(size, 0x5a), 0, size, 0);
  await file.close();
}
