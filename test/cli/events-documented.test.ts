/** Every event that the sources tell or log is in docs/operating.md, and every one that stands there is in the sources. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

/** Where an event's code stands in a call: `tell('warn', 'code', …`, `log.info('code', …`, `log[level]('code', …`, `trouble('code', …`. */
const CALLS = [
  /\b#?tell\(\s*(?:[^,;]*?,\s*){1,2}?'(?!(?:info|warn|error)')([a-z][a-z-]+)'/gi,
  /(?:\.(?:info|warn|error)|\blog\[[^\]]+\])\(\s*'([a-z][a-z-]+)'/gi,
  /\btrouble\(\s*'([a-z][a-z-]+)'/gi,
];
/** Codes that reach such a call by a variable. */
const BY_VARIABLE = {
  hub: ['hub-stopped', 'split-brain', 'superseded', 'volume-grown', 'volume-shrunk'],
  agent: ['numbers-for-next-start', 'numbers-not-taken'],
};

async function sourcesOf(directory: string): Promise<string> {
  const entries = await readdir(join(root, directory), { recursive: true, withFileTypes: true });
  const files = entries.filter(
    ({ name, parentPath }) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !parentPath.includes('/testing'),
  );
  const texts = await Promise.all(files.map(({ name, parentPath }) => readFile(join(parentPath, name), 'utf8')));
  return texts.join('\n');
}

/** The codes in the first column of the table under a heading. */
async function documented(heading: string): Promise<string[]> {
  const text = await readFile(join(root, 'docs/operating.md'), 'utf8');
  const section = text.split(`\n### ${heading}\n`)[1]?.split(/\n#{2,3} /)[0] ?? expect.unreachable(`no ${heading}`);
  const cells = [...section.matchAll(/^\| ([^|]+) \|/gm)].map(([, cell = '']) => cell);
  return cells.flatMap((cell) => [...cell.matchAll(/`([a-z-]+)`/g)].map(([, code = '']) => code));
}

test.for([
  ['hub', 'Events of the hub', ['packages/hub/src']],
  ['agent', 'Log lines of the agent', ['packages/agent/src', 'packages/bitmap/src']],
] as const)('the %s: %s', async ([who, heading, directories]) => {
  const sources = (await Promise.all(directories.map(sourcesOf))).join('\n');
  const found = new Set<string>(BY_VARIABLE[who]);
  for (const call of CALLS) for (const [, code = ''] of sources.matchAll(call)) found.add(code);
  // A pattern that has gone blind must not pass for a table that is complete.
  expect(found.size).toBeGreaterThan(40);
  for (const code of BY_VARIABLE[who]) expect(sources).toContain(`'${code}'`);
  expect((await documented(heading)).sort()).toEqual([...found].sort());
});
