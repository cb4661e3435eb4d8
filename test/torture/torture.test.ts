// All promises at once, with real processes: every kind of blow lands under load, then everything is equal.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { testScope } from '../kit/test-scope.js';
import { torture } from './torture.js';

test(
  'agent, hub, upstream and link are killed, stopped, restarted and cut under load: no promise is broken',
  { timeout: 240_000 },
  async () => {
    const said: string[] = [];
    const { report, logs } = await torture(testScope(), {
      seed: 20,
      timeMs: 12_000,
      upstream: 'qemu-nbd',
      haste: 3,
      said: (what) => said.push(what),
    });
    expect(report.violations, `seed ${report.seed}\n${said.join('\n')}\n${logs.slice(-20_000)}`).toEqual([]);
    for (const [kind, times] of Object.entries(report.blows)) expect(times, kind).toBeGreaterThan(0);
    expect(report.rounds).toBeGreaterThan(0);
    expect(report.resumes + report.resyncs).toBeGreaterThan(0);
    expect(report.pointsJudged).toBeGreaterThan(0);
    expect(report.guest.writes).toBeGreaterThan(500);
    expect(report.guest.connections).toBeGreaterThan(1);
    expect(report.fio.runs).toBeGreaterThan(0);
  },
);

test('the command draws a seed where none is given, and says what it does not know', { timeout: 60_000 }, async () => {
  const words = ['--import', 'tsx', '-C', '@rephub/source', join(import.meta.dirname, 'main.ts'), '--upstream', 'none'];
  const outcome = await promisify(execFile)(process.execPath, words).catch((fault: unknown) => fault);
  expect(outcome).toMatchObject({ code: 2, stderr: '--upstream none: expected one of qemu-nbd, nbdkit, file\n' });
});
