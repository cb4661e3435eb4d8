// `failover-test` as a process against `rephub serve` as a process: what it runs, what it concludes, what it leaves behind.
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodePlatform } from '@rephub/platform/node';
import { expect, test } from 'vitest';
import { command, COMMANDS } from '../kit/commands.js';
import { run, start } from '../kit/process.js';
import { HubPlace } from '../kit/rephub-system.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

async function protectedHub(scope: Scope): Promise<{ hub: HubPlace; agent: ScriptedAgent }> {
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const address = { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort } as const;
  const agent = new ScriptedAgent(nodePlatform(), address, {
    volumes: [
      { name: 'disk0', sizeBytes: 4 * MIB },
      { name: 'data-1', sizeBytes: 2 * MIB },
    ],
  });
  await agent.protect(new Map([['disk0', Buffer.alloc(MIB, 7)]]));
  return { hub, agent };
}

const failoverTest = async (hub: HubPlace, ...args: string[]): ReturnType<typeof command> =>
  await command('failover-test', ['vm1', '--http', hub.http, ...args]);

test('passes when each check does, on exports that can be written, and leaves the replica as it was', async () => {
  const scope = testScope();
  const { hub, agent } = await protectedHub(scope);
  const report = join(await tempDir(scope), 'report.json');
  const result = await failoverTest(
    hub,
    ...['--name', 'nightly', '--report', report],
    ...['--check', 'qemu-io -f raw -c "read -P 7 0 64k" -c "write -P 9 0 64k" -c "read -P 9 0 64k" "$REPHUB_TEST_URI"'],
    ...['--check', 'qemu-io -f raw -c "read -P 9 0 64k" -c "read -P 7 64k 64k" "$REPHUB_TEST_URI_disk0"'],
    ...[
      '--check',
      'nbdinfo --size "$REPHUB_TEST_URI_data_1"; echo $REPHUB_TEST_GROUP $REPHUB_TEST_NAME $REPHUB_TEST_NUMBER',
    ],
  );
  expect(result.stdout).toContain('verdict: passed');
  expect(result.stdout).toContain(`vm1 nightly ${agent.lastNumber}`);
  expect(result.code).toBe(0);
  const told = JSON.parse(await readFile(report, 'utf8')) as Record<string, unknown>;
  expect(told).toMatchObject({ group: 'vm1', test: 'nightly', verdict: 'passed', point: { seq: agent.lastNumber } });
  expect(told['rtoSeconds']).toBeGreaterThan(0);
  expect((await hub.status('vm1')).tests).toEqual([]);
  const replica = await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 7 0 1M', hub.uri('vm1', 'disk0')]);
  expect(replica.code).toBe(0);
});

test('volumes whose variable would be the same: it is not set, not even by an outer test, and that is said', async () => {
  const hub = await HubPlace.prepare(testScope());
  await hub.start();
  const volumes = ['data-1', 'data_1'].map((name, index) => ({ name, sizeBytes: (index + 1) * MIB }));
  const address = { kind: 'tcp', host: '127.0.0.1', port: hub.linkPort } as const;
  await new ScriptedAgent(nodePlatform(), address, { volumes }).protect();
  const check =
    '[ -z "${REPHUB_TEST_URI_data_1+set}" ] && for uri in $REPHUB_TEST_URIS; do nbdinfo --size "$uri"; done';
  const result = await command('failover-test', ['vm1', '--http', hub.http, '--check', check, '--json'], {
    env: { REPHUB_TEST_URI_data_1: 'nbd://127.0.0.1:1/other' },
  });
  expect(result.stderr).toContain('REPHUB_TEST_URI_data_1 would be of data-1 and data_1 at once, so it is not set');
  expect(result, result.stdout).toMatchObject({ code: 0 });
  expect(JSON.parse(result.stdout)).toMatchObject({ checks: [{ lastLines: [String(MIB), String(2 * MIB)] }] });
});

test('fails when a check fails, with its last lines, and exit code 1', async () => {
  const { hub } = await protectedHub(testScope());
  const result = await failoverTest(hub, '--check', 'true', '--check', 'echo the superblock is gone >&2; exit 4');
  expect(result.code).toBe(1);
  expect(result.stdout).toContain('failed, exit 4');
  expect(result.stdout).toContain('| the superblock is gone');
  expect((await hub.status('vm1')).tests).toEqual([]);
});

test('without a check it reads the ends of each volume', async () => {
  const { hub } = await protectedHub(testScope());
  const result = await failoverTest(hub, '--json');
  expect(result.code).toBe(0);
  const report = JSON.parse(result.stdout) as { checks: { lastLines: string[] }[] };
  expect(report.checks[0]?.lastLines).toEqual([
    `disk0: ${4 * MIB} bytes, both ends read`,
    `data-1: ${2 * MIB} bytes, both ends read`,
  ]);
});

test('a check that hangs is ended with all that it started, and the test has failed', async () => {
  const scope = testScope();
  const { hub } = await protectedHub(scope);
  const mark = join(await tempDir(scope), 'pid');
  const result = await failoverTest(hub, '--timeout', '500ms', '--check', `sleep 300 & echo $! > ${mark}; wait`);
  expect(result.code).toBe(1);
  expect(result.stdout).toContain('failed, timeout');
  const pid = (await readFile(mark, 'utf8')).trim();
  // Gone, or dead and not yet collected by whoever inherited it.
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').then(
    (stat) => stat.replace(/^.*\) /, '').slice(0, 1),
    () => 'gone',
  );
  expect(['gone', 'Z']).toContain(state);
});

test.for([
  ['a check that is not there', ['--check', 'no-such-program-here'], 75],
  ['a check that cannot tell', ['--check', 'exit 75'], 75],
] as const)('%s is no verdict on the replica', async ([, args, code]) => {
  const { hub } = await protectedHub(testScope());
  const result = await failoverTest(hub, ...args);
  expect(result.stdout).toContain('verdict: could not tell');
  expect(result.code).toBe(code);
});

test('interrupted, it ends the check, drops the test, and could not tell', async () => {
  const scope = testScope();
  const { hub } = await protectedHub(scope);
  const child = start(scope, process.execPath, [
    ...[COMMANDS['failover-test'], 'vm1', '--http', hub.http, '--check', 'echo begun >&2; sleep 60'],
  ]);
  await child.waitFor('the test to be open', async () => (await hub.status('vm1')).tests.length === 1);
  // The command's own process only: the check is in a group of its own and must be ended by it.
  process.kill(child.pid, 'SIGTERM');
  expect((await child.waitForExit()).code).toBe(75);
  expect(child.stdout).toContain('trouble: interrupted');
  expect((await hub.status('vm1')).tests).toEqual([]);
});

test('kept, the test stays open until it is dropped by name', async () => {
  const { hub } = await protectedHub(testScope());
  const result = await failoverTest(hub, '--name', 'mine', '--keep', '--check', 'true');
  expect(result.code).toBe(0);
  expect(result.stdout).toContain('rephub test drop vm1 mine');
  expect((await hub.status('vm1')).tests).toMatchObject([{ name: 'mine' }]);
  expect((await command('rephub', ['test', 'drop', 'vm1', 'mine', '--http', hub.http])).code).toBe(0);
  expect((await hub.status('vm1')).tests).toEqual([]);
});

test('a hub that is killed during the test makes it could not tell, and has no test left when it is back', async () => {
  const scope = testScope();
  const { hub } = await protectedHub(scope);
  const child = start(scope, process.execPath, [
    ...[COMMANDS['failover-test'], 'vm1', '--http', hub.http, '--check', 'sleep 2'],
  ]);
  await child.waitFor('the test to be open', async () => (await hub.status('vm1')).tests.length === 1);
  await hub.child.killHard();
  expect((await child.waitForExit()).code).toBe(75);
  await hub.start();
  expect((await hub.status('vm1')).tests).toEqual([]);
});

test.for([
  ['--boot', ['--boot'], 2, '--boot is not built yet'],
  ['a point in the past', ['--at', '-15m'], 2, 'only latest is built'],
  ['an HTML report', ['--report', 'x.html'], 2, 'only FILE.json is built'],
  ['a bad name', ['--name', '../x'], 2, '--name'],
  [
    'a report in no directory',
    ['--report', '/nonexistent/r.json'],
    2,
    '--report: cannot write /nonexistent/r.json: no',
  ],
  ['a report below a file', ['--report', '/dev/null/x.json'], 2, '--report: cannot write /dev/null/x.json'],
] as const)('%s is refused by name', async ([, args, code, said]) => {
  const result = await command('failover-test', ['vm1', ...args]);
  // Refused before anything was tried: there is no verdict.
  expect(result).toMatchObject({ code, stdout: '' });
  expect(result.stderr).toContain(said);
});

test('a name that no group can have is wrong usage', async () => {
  const result = await command('failover-test', ['bad name', '--http', '127.0.0.1:1']);
  expect(result).toMatchObject({ code: 2, stdout: '' });
  expect(result.stderr).toContain('GROUP: "bad name" is not allowed');
});

test.for([
  ['passed', 'true', 75],
  ['failed', 'exit 4', 1],
] as const)('a report that cannot be written in the end leaves the verdict %s', async ([verdict, check, code]) => {
  const scope = testScope();
  const { hub } = await protectedHub(scope);
  const dir = join(await tempDir(scope), 'reports');
  await mkdir(dir);
  const report = join(dir, 'r.json');
  const result = await failoverTest(hub, '--report', report, '--check', `rmdir ${dir}; ${check}`);
  expect(result.stdout).toContain(`verdict: ${verdict}`);
  expect(result.stderr).toContain(`--report: cannot write ${report}: no such file or directory (ENOENT)`);
  expect(result.code).toBe(code);
  expect((await hub.status('vm1')).tests).toEqual([]);
});

test('no hub at all is could not tell', async () => {
  const { hub } = await protectedHub(testScope());
  await hub.child.stop();
  expect((await failoverTest(hub, '--check', 'true')).code).toBe(75);
});
