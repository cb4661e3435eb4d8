// What the commands refuse at start: each wrong option, URI, environment variable and YAML key, by name, with exit code 2
// and before anything is touched.
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command, type CommandName } from '../kit/commands.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const AGENT = {
  '--group': 'vm1',
  '--upstream': 'file:/nonexistent/disk.raw',
  '--listen': 'nbd+unix:///?socket=/nonexistent/agent.sock',
  '--hub': 'tcp://127.0.0.1:9',
};
const HUB = { '--listen': 'tcp://127.0.0.1:0', '--http': '127.0.0.1:0' };

/** What is given, and what the refusal must name. */
type Case = readonly [given: Readonly<Record<string, string | undefined>>, ...named: readonly string[]];

const wrongForAgent: readonly Case[] = [
  [{ '--group': undefined }, '--group'],
  [{ '--upstream': undefined }, '--upstream'],
  [{ '--listen': undefined }, '--listen'],
  [{ '--state': undefined }, '--state'],
  [{ '--group': 'bad name' }, '--group', 'bad name'],
  [{ '--group': 'latest' }, '--group', 'latest'],
  [{ '--volume': '../up' }, '--volume', '../up'],
  [{ '--upstream': 'http://h/x' }, '--upstream', 'http://h/x'],
  [{ '--upstream': 'nbd://h:99999/x' }, '--upstream', '99999'],
  [{ '--upstream': 'nbd+unix:///x' }, '--upstream', 'socket'],
  [{ '--upstream': 'file:' }, '--upstream'],
  [{ '--listen': 'somewhere' }, '--listen', 'somewhere'],
  [{ '--upstream': 'nbds://h/x' }, '--upstream', 'nbds://h/x', 'TLS is not built yet'],
  [{ '--http': '0.0.0.0:9012' }, '--http', '0.0.0.0:9012', 'loopback'],
  [{ '--http': 'unix:/run/x.sock' }, '--http', 'unix:/run/x.sock', 'HOST:PORT'],
  [{ '--hub': 'http://h:1' }, '--hub', 'http://h:1'],
  [{ '--hub': 'tcp://h:0' }, '--hub', 'tcp://h:0'],
  [{ '--mode': 'never' }, '--mode', 'never'],
  [{ '--on-congestion': 'panic' }, '--on-congestion', 'panic', 'pull-ahead'],
  [{ '--durability': 'hope' }, '--durability', 'hope'],
  [{ '--window': 'banana' }, '--window', 'banana'],
  [{ '--window': '-1MiB' }, '--window', '-1MiB'],
  [{ '--granularity': '3000' }, '--granularity', '3000'],
  [{ '--hot-extents': '0' }, '--hot-extents', '0'],
  [{ '--hot-extents': '1e99' }, '--hot-extents', '1e99'],
  [{ '--retries': '-2' }, '--retries', '-2'],
  [{ '--retry-delay': '2parsecs' }, '--retry-delay', '2parsecs'],
  [{ '--request-timeout': '' }, '--request-timeout'],
  [{ '--retry-exponential': 'perhaps' }, '--retry-exponential', 'perhaps'],
  [{ '--retry-readonly': 'maybe' }, '--retry-readonly', 'maybe', 'on-write-failure'],
  [{ '--retries': '99999999999999999999' }, '--retries', '99999999999999999999'],
  [{ '--connections': '0' }, '--connections', '0'],
  [{ '--multi-conn': 'magic' }, '--multi-conn', 'magic', 'emulate'],
  [{ '--track-dirty': 'slow' }, '--track-dirty', 'slow', 'connection'],
  [{ '--idle-flush': '30 moons' }, '--idle-flush', '30 moons'],
  [{ '--replay-buffer': '-1' }, '--replay-buffer', '-1'],
  [{ '--wait-upstream': 'long' }, '--wait-upstream', 'long'],
  [{ '--read-cache': 'all' }, '--read-cache', 'all'],
  [{ '--max-rate': '0' }, '--max-rate'],
  [{ '--max-rate': '08:00-25:00=10MiB,none' }, '--max-rate', 'from 00:00 to 24:00', '08:00-25:00=10MiB'],
  [{ '--frobnicate': '1' }, '--frobnicate'],
];

const wrongForHub: readonly Case[] = [
  [{ '--data': undefined }, '--data'],
  [{ '--listen': 'nowhere' }, '--listen', 'nowhere'],
  [{ '--listen': 'tcp://0.0.0.0:9010' }, '--listen', '0.0.0.0', '--insecure'],
  [{ '--nbd': 'nbd://0.0.0.0:10809' }, '--nbd', '0.0.0.0', '--insecure'],
  [{ '--nbd': 'tcp://127.0.0.1:1' }, '--nbd', 'tcp://127.0.0.1:1'],
  [{ '--http': '127.0.0.1:banana' }, '--http', 'banana'],
  [{ '--http': '0.0.0.0:9011' }, '--http', '0.0.0.0', '--insecure'],
  [{ '--heartbeat': '60s', '--heartbeat-timeout': '200ms' }, '--heartbeat-timeout', '200 ms', '1 m'],
  [{ '--heartbeat': '5s' }, '--heartbeat-timeout', '5 s'],
  [{ '--retention': 'forever and a day' }, '--retention', 'forever and a day'],
  [{ '--journal-max': 'lots' }, '--journal-max', 'lots'],
  [{ '--reserve': 'enough' }, '--reserve', 'enough'],
  [{ '--frobnicate': '1' }, '--frobnicate'],
];

function flags(options: Readonly<Record<string, string | undefined>>): readonly string[] {
  return Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
}

async function refused(
  name: CommandName,
  args: readonly string[],
  named: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const result = await command(name, args, { env, timeoutMs: 15_000 });
  expect(result.code, `${args.join(' ')}\n${result.stderr}${result.stdout}`).toBe(2);
  expect(result.stdout).toBe('');
  for (const text of named) expect(result.stderr).toContain(text);
  // One line for people, not the place in the code.
  expect(result.stderr).not.toMatch(/\n\s+at /);
}

test.for(wrongForAgent)('repagent run refuses %j', async ([given, ...named]) => {
  const state = join(await tempDir(testScope()), 'state');
  await refused('repagent', ['run', ...flags({ ...AGENT, '--state': state, ...given })], named);
  expect(existsSync(state)).toBe(false);
});

test.for(wrongForHub)('rephub serve refuses %j', async ([given, ...named]) => {
  const data = join(await tempDir(testScope()), 'data');
  await refused('rephub', ['serve', ...flags({ ...HUB, '--data': data, ...given })], named);
  expect(existsSync(data)).toBe(false);
});

test.for<readonly [string, ...(readonly string[])]>([
  ['windw: 1MiB', 'windw', 'window'],
  ['window: banana', 'window', 'banana'],
  ['volumes: [{name: a, upstream: "file:/x", upstrem: 1}]', 'upstrem'],
  ['volumes: [{name: "a b", upstream: "file:/x"}]', 'a b'],
  ['volumes: [{name: a, upstream: "file:/x"}, {name: a, upstream: "file:/y"}]', 'a'],
  ['volumes: [{name: a, upstream: "file:/x"}, {name: b, upstream: "file:///x"}]', 'volumes a and b', '/x'],
  ['volumes: [{name: a, upstream: "nbd://h/x"}, {name: b, upstream: "nbd://h:10809/x"}]', 'volumes a and b', 'nbd://h'],
  ['volumes: 7', 'volumes'],
  ['window: [1, 2]', 'window'],
  ['window: {', 'agent.yaml'],
  ['just text', 'agent.yaml'],
])('repagent run refuses a file with %j', async ([line, ...named]) => {
  const dir = await tempDir(testScope());
  const file = join(dir, 'agent.yaml');
  await writeFile(
    file,
    `group: vm1\nlisten: ["${AGENT['--listen']}"]\n${line.startsWith('volumes') ? '' : 'upstream: "file:/nonexistent"\n'}${line}\n`,
  );
  await refused('repagent', ['run', '-c', file, `--state=${join(dir, 'state')}`], named);
});

test.for(['--volume=disk1', '--upstream=file:/y'])('repagent run refuses %s beside volumes', async (given) => {
  const dir = await tempDir(testScope());
  const file = join(dir, 'agent.yaml');
  await writeFile(file, `group: vm1\nlisten: ["${AGENT['--listen']}"]\nvolumes: [{name: a, upstream: "file:/x"}]\n`);
  const named = [given.split('=')[0] ?? '', 'volumes', 'exclude each other'];
  await refused('repagent', ['run', '-c', file, `--state=${join(dir, 'state')}`, given], named);
});

test('rephub serve refuses a file in which nobody listens for agents', async () => {
  const dir = await tempDir(testScope());
  const file = join(dir, 'rephub.yaml');
  await writeFile(file, `data: ${join(dir, 'data')}\nhttp: 127.0.0.1:0\nnbd: []\nlisten: []\n`);
  await refused('rephub', ['serve', '-c', file], ['listen', 'the list is empty']);
  expect(existsSync(join(dir, 'data'))).toBe(false);
});

test('a file that is not there is named', async () => {
  await refused('repagent', ['run', '-c', '/nonexistent/vm1.yaml'], ['/nonexistent/vm1.yaml']);
});

test('a wrong environment variable is named as such', async () => {
  const state = join(await tempDir(testScope()), 'state');
  await refused('repagent', ['run', ...flags({ ...AGENT, '--state': state })], ['REPAGENT_WINDOW', 'banana'], {
    REPAGENT_WINDOW: 'banana',
  });
});

test.for(['two\nlines', 'blank at the end ', '\u20ac'])(
  'a token that HTTP cannot carry as it is (%j) is refused',
  async (token) => {
    const data = join(await tempDir(testScope()), 'data');
    for (const args of [
      ['serve', ...flags({ ...HUB, '--data': data })],
      ['status', '--http', '127.0.0.1:1'],
    ]) {
      await refused('rephub', args, ['REPHUB_TOKEN', 'Latin-1'], { REPHUB_TOKEN: token });
    }
    expect(existsSync(data)).toBe(false);
  },
);

test.for<readonly [CommandName, readonly string[]]>([
  ['repagent', []],
  ['repagent', ['fly']],
  ['repagent', ['status']],
  ['rephub', []],
  ['rephub', ['fly']],
  ['failover-test', []],
  ['failover-test', ['vm1', '--timeout', 'soon']],
])('%s %j is wrong usage', async ([name, args]) => {
  const result = await command(name, args, { timeoutMs: 15_000 });
  expect(result.code, result.stdout + result.stderr).toBe(2);
});

test.for<readonly [CommandName, readonly string[]]>([
  ['repagent', []],
  ['repagent', ['run']],
  ['repagent', ['status']],
  ['rephub', []],
  ['rephub', ['serve']],
  ['rephub', ['status']],
  ['rephub', ['groups']],
  ['failover-test', []],
])('%s %j has --help, and every command a --version', async ([name, args]) => {
  const help = await command(name, [...args, '--help'], { timeoutMs: 15_000 });
  expect(help).toMatchObject({ code: 0, stderr: '' });
  expect(help.stdout).toContain(name);
  if (args.length === 0) expect((await command(name, ['--version'])).stdout).toMatch(/^\S*\s?\d+\.\d+\.\d+/);
});

test('flag beats environment beats file beats default, and --print-config shows the outcome', async () => {
  const dir = await tempDir(testScope());
  const file = join(dir, 'agent.yaml');
  await writeFile(file, 'group: vm1\nupstream: "file:/nonexistent"\nwindow: 3MiB\nretries: 7\non-congestion: block\n');
  const args = [
    'run',
    '-c',
    file,
    `--listen=${AGENT['--listen']}`,
    `--state=${join(dir, 'state')}`,
    '--retries=9',
    '--print-config',
  ];
  const result = await command('repagent', args, {
    env: { REPAGENT_RETRIES: '8', REPAGENT_ON_CONGESTION: 'pull-ahead' },
  });
  expect(result, result.stderr).toMatchObject({ code: 0 });
  expect(result.stdout).toMatch(/^retries: "?9"?$/m);
  expect(result.stdout).toMatch(/^on-congestion: pull-ahead$/m);
  expect(result.stdout).toMatch(/^window: 3MiB$/m);
  expect(existsSync(join(dir, 'state'))).toBe(false);
});

test('beside volumes, --print-config says nothing of the name of an only volume, unless somebody gave it', async () => {
  const dir = await tempDir(testScope());
  const file = join(dir, 'agent.yaml');
  const volumes = 'volumes:\n  - name: root\n    upstream: file:/nonexistent\n';
  await writeFile(file, `group: vm1\n${volumes}`);
  const several = [
    'run',
    '-c',
    file,
    `--listen=${AGENT['--listen']}`,
    `--state=${join(dir, 'state')}`,
    '--print-config',
  ];
  const result = await command('repagent', several);
  expect(result, result.stderr).toMatchObject({ code: 0 });
  expect(result.stdout).toContain(volumes);
  expect(result.stdout).not.toMatch(/^volume:/m);
  const single = await command('repagent', [
    ...['run', ...flags({ ...AGENT, '--state': join(dir, 'state') }), '--print-config'],
  ]);
  expect(single.stdout).toMatch(/^volume: disk0$/m);
});

test('a file that rephub read cannot write is named once, before the hub is asked', async () => {
  const args = [
    'read',
    'vm1/disk0',
    '--offset',
    '0',
    '--length',
    '1',
    '--http',
    '127.0.0.1:1',
    '--out',
    '/nonexistent/x',
  ];
  expect(await command('rephub', args)).toMatchObject({
    code: 2,
    stderr: 'rephub: --out: cannot write /nonexistent/x: no such file or directory (ENOENT)\n',
  });
});
