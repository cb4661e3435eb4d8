// A command that begins while it is built, or before, says so, and that another try may help: 75 (what it says of the stack is no help).
import { cp, readdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../kit/process.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const ROOT = join(import.meta.dirname, '../..');

/** The hub's package as it was built, to be taken apart. */
async function copied(): Promise<string> {
  const directory = await tempDir(testScope());
  await symlink(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  for (const part of ['bin', 'dist', 'package.json']) {
    await cp(join(ROOT, 'packages/hub', part), join(directory, part), { recursive: true });
  }
  return directory;
}

test('a whole copy works', async () => {
  const directory = await copied();
  expect(await run(process.execPath, [join(directory, 'bin/rephub.js'), '--version'])).toMatchObject({ code: 0 });
});

test.for(['rephub', 'failover-test'])('%s that was not built', async (name) => {
  const directory = await copied();
  await rm(join(directory, 'dist'), { recursive: true });
  const { code, stderr } = await run(process.execPath, [join(directory, `bin/${name}.js`), '--version']);
  expect(code).toBe(75);
  expect(stderr).toMatch(new RegExp(`^${name}: not built yet.*npm run build.*\\n$`));
});

test('rephub serve whose other half was built anew since it began', async () => {
  const directory = await copied();
  const parts = join(directory, 'dist/parts');
  for (const name of await readdir(parts)) if (name.startsWith('serve-')) await rm(join(parts, name));
  const args = ['serve', '--data', join(directory, 'data')];
  const { code, stderr } = await run(process.execPath, [join(directory, 'bin/rephub.js'), ...args]);
  expect(code).toBe(75);
  expect(stderr).toMatch(/^rephub: a part of this command is not there.*try again.*\n$/i);
});
