/**
 * How `repagent run` and `rephub serve` end when they cannot start: 2 says that what was typed is wrong, 75 that another
 * process has what they need, or that a server is away, and another try may help; 1 that this machine does not allow it.
 */
import { once } from 'node:events';
import { link, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { command, type CommandName } from '../kit/commands.js';
import { HubPlace } from '../kit/rephub-system.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

type Options = Readonly<Record<string, string>>;

let scope: Scope;
let dir = '';
beforeEach(async () => {
  scope = testScope();
  dir = await tempDir(scope);
  await writeFile(join(dir, 'disk.raw'), Buffer.alloc(1 << 20));
});

const agent = (): Options => ({
  '--group': 'vm1',
  '--upstream': `file:${join(dir, 'disk.raw')}`,
  '--listen': 'nbd://127.0.0.1:0',
  '--state': join(dir, 'state'),
});
const hub = (): Options => ({
  '--data': join(dir, 'data'),
  '--listen': 'tcp://127.0.0.1:0',
  '--nbd': 'nbd://127.0.0.1:0',
  '--http': '127.0.0.1:0',
});

async function ends(name: CommandName, options: Options): Promise<{ code: number | null; stderr: string }> {
  const args = [name === 'rephub' ? 'serve' : 'run', ...Object.entries(options).flat()];
  const { code, stderr } = await command(name, args, { timeoutMs: 20_000 });
  return { code, stderr };
}

/** A port that somebody listens on. */
async function takenPort(): Promise<number> {
  const taken: Server = createServer();
  taken.listen(0, '127.0.0.1');
  await once(taken, 'listening');
  scope.defer('the one who has the port', () => {
    taken.close();
    return Promise.resolve();
  });
  return (taken.address() as AddressInfo).port;
}

test('an address that another process has: 75, said once and in words', async () => {
  const port = await takenPort();
  const where = `127.0.0.1:${port}`;
  const starts: [CommandName, Options, string][] = [
    ['repagent', { ...agent(), '--listen': `nbd://${where}` }, '--listen: '],
    ['repagent', { ...agent(), '--http': where }, '--http: '],
    ['rephub', { ...hub(), '--listen': `tcp://${where}` }, '--listen: '],
    ['rephub', { ...hub(), '--nbd': `nbd://${where}` }, '--nbd: '],
    ['rephub', { ...hub(), '--http': where }, '--http: '],
  ];
  for (const [name, options, option] of starts) {
    expect(await ends(name, options), JSON.stringify(options)).toEqual({
      code: 75,
      stderr: expect.stringContaining(
        `: ${option}cannot listen on ${where}: something listens there already (EADDRINUSE)\n`,
      ) as string,
    });
  }
});

test('a file in the place of a socket: 1, naming the option and the file', async () => {
  const file = join(dir, 'disk.raw');
  const starts: [CommandName, Options, string][] = [
    ['repagent', { ...agent(), '--listen': `nbd+unix:///?socket=${file}` }, '--listen: '],
    ['rephub', { ...hub(), '--listen': `unix://${file}` }, '--listen: '],
    ['rephub', { ...hub(), '--nbd': `nbd+unix:///?socket=${file}` }, '--nbd: '],
  ];
  for (const [name, options, option] of starts) {
    expect(await ends(name, options), JSON.stringify(options)).toEqual({
      code: 1,
      stderr: expect.stringContaining(`: ${option}cannot listen on ${file}: it is a file and no socket\n`) as string,
    });
  }
});

test('a directory that another process has: 75', async () => {
  const place = await HubPlace.prepare(scope, { dataDir: join(dir, 'data') });
  await place.start();
  expect(await ends('rephub', hub())).toEqual({
    code: 75,
    stderr: expect.stringContaining('in use by another rephub') as string,
  });
});

test('an upstream that is away: 75; one that is not there, or no disk: 2', async () => {
  const away = { ...agent(), '--upstream': 'nbd+unix:///?socket=/nonexistent/disk.sock', '--retries': '0' };
  expect((await ends('repagent', away)).code).toBe(75);
  for (const path of [join(dir, 'none.raw'), dir]) {
    expect((await ends('repagent', { ...agent(), '--upstream': `file:${path}` })).code).toBe(2);
  }
});

test('two volumes over one file, by another name of it: 2, naming both', async () => {
  const disk = join(dir, 'disk.raw');
  await link(disk, join(dir, 'hard.raw'));
  await symlink(disk, join(dir, 'soft.raw'));
  for (const other of [join(dir, 'hard.raw'), join(dir, 'soft.raw'), `${dir}/./disk.raw`]) {
    const file = join(dir, 'agent.json');
    const volumes = [disk, other].map((path, index) => ({ name: `disk${index}`, upstream: `file:${path}` }));
    await writeFile(file, JSON.stringify({ volumes }));
    const given = Object.fromEntries(Object.entries(agent()).filter(([name]) => name !== '--upstream'));
    expect(await ends('repagent', { ...given, '-c': file })).toEqual({
      code: 2,
      stderr: expect.stringContaining(`volumes disk0 and disk1 have the same disk, ${other}`) as string,
    });
  }
});

test('an address that this machine does not have: 1', async () => {
  const options = { ...hub(), '--http': '192.0.2.1:9011' };
  const { code, stderr } = await command('rephub', ['serve', '--insecure', ...Object.entries(options).flat()]);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringContaining('--http: cannot listen on 192.0.2.1:9011') as string,
  });
});

test('a data directory of a later version, or with a damaged identity: 1; one of something else: 2', async () => {
  const place = await HubPlace.prepare(scope, { dataDir: join(dir, 'data') });
  await place.start();
  await place.child.stop();
  const file = join(dir, 'data', 'hub.json');
  const identity = await readFile(file, 'utf8');
  await writeFile(file, identity.replace(/"hubId":"./, '"hubId":"z'));
  expect((await ends('rephub', hub())).code).toBe(1);
  await mkdir(join(dir, 'photos'));
  await writeFile(join(dir, 'photos', 'holiday.jpg'), 'x');
  expect((await ends('rephub', { ...hub(), '--data': join(dir, 'photos') })).code).toBe(2);
});

test('a state directory of another group: 2', async () => {
  const port = await takenPort();
  // It has made its state by the time it finds the port taken.
  expect((await ends('repagent', { ...agent(), '--listen': `nbd://127.0.0.1:${port}` })).code).toBe(75);
  expect(await ends('repagent', { ...agent(), '--group': 'vm2' })).toEqual({
    code: 2,
    stderr: expect.stringContaining('belongs to group vm1; give group vm2 a directory of its own') as string,
  });
});
