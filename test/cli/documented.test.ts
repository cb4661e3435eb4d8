// What docs/operating.md shows is taken as it stands: the configuration files by the commands, the units' commands by this checkout.
import { access, constants, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { command, type CommandName } from '../kit/commands.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const root = join(import.meta.dirname, '../..');

/** The code block whose first line is a comment that names the file. */
async function shown(path: string): Promise<string> {
  const text = await readFile(join(root, 'docs/operating.md'), 'utf8');
  const found = text.split('\n```').find((block) => block.split('\n')[1] === `# ${path}`);
  return (found ?? expect.unreachable(`${path} is not in docs/operating.md`)).split('\n').slice(1).join('\n');
}

test.for<readonly [CommandName, string, string]>([
  ['repagent', 'run', '/etc/repagent/vm1.yaml'],
  ['rephub', 'serve', '/etc/rephub/rephub.yaml'],
])('%s %s takes the %s shown', async ([name, word, path]) => {
  const file = join(await tempDir(testScope()), 'shown.yaml');
  await writeFile(file, `${await shown(path)}\n`);
  const result = await command(name, [word, '-c', file, '--print-config'], { timeoutMs: 15_000 });
  expect(result, result.stderr).toMatchObject({ code: 0, stderr: '' });
});

test.for(['/etc/systemd/system/repagent@.service', '/etc/systemd/system/rephub.service'])(
  'the command of %s is in the checkout, and takes that file',
  async (path) => {
    const unit = await shown(path);
    const [, script = '', file = ''] = /^ExecStart=\/opt\/rephub\/(\S+) \S+ -c (\S+)$/m.exec(unit) ?? [];
    await access(join(root, script), constants.X_OK);
    expect((await shown(file.replace('%i', 'vm1'))).length).toBeGreaterThan(0);
    expect(unit).toMatch(/^Restart=always$/m);
  },
);

test('the check that the docs show can be run', async () => {
  const [, script = ''] =
    /'\/opt\/rephub\/(\S+) e2fsck -fn'/.exec(await readFile(join(root, 'docs/operating.md'), 'utf8')) ?? [];
  await access(join(root, script), constants.X_OK);
});
