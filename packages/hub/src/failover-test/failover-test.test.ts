import { expect, test } from 'vitest';
import { checkEnvironment, preferredUri, sharedVariables } from './environment.js';
import { buildReport, reportText } from './report.js';
import { type CheckResult, shownRto, testVerdict } from './verdict.js';

function check(parts: Partial<CheckResult> = {}): CheckResult {
  return {
    command: 'true',
    exitCode: 0,
    ended: null,
    seconds: 1,
    sinceStartSeconds: 2,
    lastLines: [],
    ...parts,
  };
}

test.for<[string, string, CheckResult[], string | null]>([
  ['all checks good', 'passed', [check(), check()], null],
  ['one check bad', 'failed', [check(), check({ exitCode: 4 })], null],
  ['a check out of time', 'failed', [check({ exitCode: null, ended: 'timeout' })], null],
  ['a check interrupted', 'could not tell', [check({ exitCode: null, ended: 'interrupted' })], null],
  ['a check that could not tell', 'could not tell', [check(), check({ exitCode: 75 })], null],
  ['a check that is not there', 'could not tell', [check({ exitCode: 127 })], null],
  ['no check at all', 'could not tell', [], null],
  ['good checks, and the hub gone meanwhile', 'could not tell', [check()], 'hub gone'],
  ['a bad check, and the hub gone meanwhile', 'failed', [check({ exitCode: 1 })], 'hub gone'],
])('%s: %s', ([, verdict, checks, trouble]) => {
  expect(testVerdict(checks, trouble)).toBe(verdict);
});

test('the RTO is the time to the first good check', () => {
  expect(shownRto([check({ exitCode: 1 }), check({ sinceStartSeconds: 7 }), check({ sinceStartSeconds: 9 })])).toBe(7);
  expect(shownRto([check({ exitCode: 1 })])).toBeNull();
});

test('checks find the URI of each volume in their environment', () => {
  const environment = checkEnvironment({
    group: 'vm1',
    name: 't1',
    seq: 42,
    pointTime: '2026-01-01T00:00:00.000Z',
    exports: [
      { volume: 'disk0', sizeBytes: 1, uris: ['nbd://127.0.0.1:1/a', 'nbd+unix:///a?socket=/s'] },
      { volume: 'data-1.x', sizeBytes: 1, uris: ['nbd://127.0.0.1:1/b'] },
    ],
  });
  expect(environment).toMatchObject({
    REPHUB_TEST_URI: 'nbd+unix:///a?socket=/s',
    REPHUB_TEST_URI_disk0: 'nbd+unix:///a?socket=/s',
    REPHUB_TEST_URI_data_1_x: 'nbd://127.0.0.1:1/b',
    REPHUB_TEST_GROUP: 'vm1',
    REPHUB_TEST_NAME: 't1',
    REPHUB_TEST_NUMBER: '42',
    REPHUB_TEST_VOLUMES: 'disk0 data-1.x',
    REPHUB_TEST_URIS: 'nbd+unix:///a?socket=/s nbd://127.0.0.1:1/b',
  });
  expect(preferredUri([])).toBeNull();
});

test('a variable that two volumes would share is neither’s; the list has both', () => {
  const exports = ['data-1', 'data_1', 'disk0'].map((volume) => ({
    volume,
    sizeBytes: 1,
    uris: [`nbd://h/${volume}`],
  }));
  const environment = checkEnvironment({ group: 'vm1', name: 't1', seq: 42, pointTime: 'now', exports });
  expect(environment).not.toHaveProperty('REPHUB_TEST_URI_data_1');
  expect(environment).toMatchObject({
    REPHUB_TEST_URI: 'nbd://h/data-1',
    REPHUB_TEST_URI_disk0: 'nbd://h/disk0',
    REPHUB_TEST_URIS: 'nbd://h/data-1 nbd://h/data_1 nbd://h/disk0',
  });
  expect(sharedVariables(exports)).toEqual([{ variable: 'REPHUB_TEST_URI_data_1', volumes: ['data-1', 'data_1'] }]);
  expect(sharedVariables(exports.slice(1))).toEqual([]);
});

test('the report ends with the verdict and shows the last lines of each check', () => {
  const report = buildReport({
    group: 'vm1',
    test: 't1',
    at: 'latest',
    point: { seq: 42, time: '2026-01-01T00:00:00.000Z', ageSeconds: 3.25 },
    rpoSeconds: 0.5,
    rpoAtLeastSeconds: 0.5,
    state: 'protected',
    reason: 'in step',
    checks: [check({ command: 'fsck', exitCode: 4, lastLines: ['1', '2', '3', '4', '5', '6', 'bad superblock'] })],
    trouble: null,
    startedAt: '2026-01-01T00:00:00.000Z',
    finishedAt: '2026-01-01T00:00:01.000Z',
    kept: false,
  });
  expect(report).toMatchObject({ verdict: 'failed', rtoSeconds: null });
  const text = reportText(report);
  expect(text).toContain('number 42 of 2026-01-01');
  expect(text).toContain('last record 3.3 s ago, RPO 0.50 s');
  expect(text).toContain('protected (in step)');
  expect(text).not.toContain('note:');
  expect(text).toContain('  | bad superblock');
  expect(text).not.toContain('  | 1\n');
  expect(text.trimEnd().split('\n').at(-1)).toBe('verdict: failed');
});

test('a test that passes on an old point says how old it is, and what may be missing', () => {
  const report = buildReport({
    group: 'vm1',
    test: 't1',
    at: 'latest',
    point: { seq: 42, time: '2026-01-01T00:00:00.000Z', ageSeconds: 3 * 3600 },
    rpoSeconds: null,
    rpoAtLeastSeconds: 2 * 3600,
    state: 'unknown',
    reason: 'agent silent',
    checks: [check()],
    trouble: null,
    startedAt: '2026-01-01T03:00:00.000Z',
    finishedAt: '2026-01-01T03:00:01.000Z',
    kept: false,
  });
  expect(report.verdict).toBe('passed');
  const text = reportText(report);
  expect(text).toContain('last record 3 h ago, RPO unknown, at least 2 h');
  expect(text).toContain('unknown (agent silent)');
  expect(text).toContain('note: vm1 was not protected then: what its guest wrote in the last 3 h may be missing');
});
