// The kit ends what it starts, and says what a child said when a wait fails.
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { must, run, start } from './process.js';
import { Scope } from './scope.js';
import { tempDir } from './temp-dir.js';
import { testScope } from './test-scope.js';
import { waitUntil } from './wait.js';

const alive = (pid: number): boolean => existsSync(`/proc/${pid}`);

test('a closed scope leaves no child and no folder behind', async () => {
  const scope = new Scope();
  const dir = await tempDir(scope);
  const sleeper = start(scope, 'sleep', ['1000']);
  expect(alive(sleeper.pid) && existsSync(dir)).toBe(true);
  await scope.close();
  expect(sleeper.exit).toEqual({ code: null, signal: 'SIGTERM' });
  expect(alive(sleeper.pid) || existsSync(dir)).toBe(false);
});

test('a child that ignores SIGTERM, or is stopped, is ended all the same', async () => {
  const scope = new Scope();
  const deaf = start(scope, 'sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'], { stopWithinMs: 200 });
  const paused = start(scope, 'sleep', ['1000']);
  await deaf.waitForOutput(/ready/);
  paused.pause();
  await scope.close();
  expect(deaf.exit?.signal).toBe('SIGKILL');
  expect(paused.exit?.signal).toBe('SIGTERM');
});

test('a scope ends the newest first, ends all even when one fails, and tells the failure', async () => {
  const scope = new Scope();
  const ended: string[] = [];
  for (const name of ['first', 'second', 'third']) {
    scope.defer(name, async () => {
      ended.push(name);
      if (name === 'second') throw new Error('no');
      await Promise.resolve();
    });
  }
  await expect(scope.close()).rejects.toThrow('ending second: no');
  expect(ended).toEqual(['third', 'second', 'first']);
});

test('waiting for output fails at once when the child ends, and shows what it said', async () => {
  const child = start(testScope(), 'sh', ['-c', 'echo so much; echo and more >&2; exit 3']);
  await expect(child.waitForOutput(/never/)).rejects.toThrow(/code 3 before.*so much\nand more/s);
});

test('waiting for output finds what was said before and after', async () => {
  const child = start(testScope(), 'sh', ['-c', 'echo port=17; sleep 0.1; echo done; sleep 100']);
  expect((await child.waitForOutput(/port=(\d+)/))[1]).toBe('17');
  await child.waitForOutput(/done/);
});

test('the kernel ends a child whose starter was killed', async () => {
  const scope = testScope();
  // The starter is a Node of its own; killed hard, it cannot tidy up.
  const kit = new URL('./process.ts', import.meta.url).pathname;
  const code = `import('${kit}').then(({ start }) => import('${kit.replace('process.ts', 'scope.ts')}').then(({ Scope }) => console.log('pid=' + start(new Scope(), 'sleep', ['1000']).pid)))`;
  const starter = start(scope, process.execPath, ['--import', 'tsx', '-e', code]);
  const pid = Number((await starter.waitForOutput(/pid=(\d+)/))[1]);
  expect(alive(pid)).toBe(true);
  await starter.killHard();
  await waitUntil('the child to be gone', () => !alive(pid));
});

test('run gives exit code and both outputs; must fails with them', async () => {
  expect(await run('sh', ['-c', 'cat; echo bad >&2; exit 5'], { input: 'in' })).toEqual({
    code: 5,
    signal: null,
    stdout: 'in',
    stderr: 'bad\n',
  });
  await expect(must('sh', ['-c', 'echo bad >&2; exit 5'])).rejects.toThrow(/code 5: bad/);
  await expect(run('sleep', ['100'], { timeoutMs: 50 })).rejects.toThrow(/waited 50 ms for sleep 100/);
});
