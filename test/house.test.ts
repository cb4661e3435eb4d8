// The house rules, kept by a test: the lint's bans do fire, files stay small, no test is left out, the map is complete.
import { readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { basename, join } from 'node:path';
import { ESLint } from 'eslint';
import { describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');

/** What git knows of, and what it would add: never dist, node_modules or anything ignored. */
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '');
const sources = files.filter((path) => /\.(ts|js|sh|py)$/.test(path));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The files that a file names in imports and exports, types and dynamic ones too. */
function importsOf(path: string, text: string): readonly string[] {
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'(\.{1,2}\/[^']+)\.js'/g)].map((match) =>
    join(path, '..', `${match[1] ?? ''}.ts`),
  );
}

/** Each circle once, from the file that was met first. */
function circles(imports: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const found: string[][] = [];
  const done = new Set<string>();
  const walk = (path: string, way: readonly string[]): void => {
    const at = way.indexOf(path);
    if (at >= 0) found.push(way.slice(at));
    if (at >= 0 || done.has(path)) return;
    for (const next of imports.get(path) ?? []) walk(next, [...way, path]);
    done.add(path);
  };
  for (const path of imports.keys()) walk(path, []);
  return found;
}

/** Folders right below a package's src, each pair once, that import each other. What lies in src itself is no folder. */
function mutualFolders(imports: ReadonlyMap<string, readonly string[]>): readonly string[] {
  const folderOf = (path: string): string | undefined => /^packages\/[^/]+\/src\/[^/]+(?=\/)/.exec(path)?.[0];
  const arrows = new Set<string>();
  for (const [path, targets] of imports) {
    for (const target of targets) arrows.add(`${folderOf(path) ?? ''} <-> ${folderOf(target) ?? ''}`);
  }
  return [...arrows].filter((arrow) => {
    const [from = '', to = ''] = arrow.split(' <-> ');
    return from !== '' && from < to && arrows.has(`${to} <-> ${from}`);
  });
}

/** Functions, classes and constants that are exported and whose names stand in no other file. */
function unusedExports(code: ReadonlyMap<string, string>): readonly string[] {
  const filesOf = new Map<string, number>();
  for (const text of code.values()) {
    for (const word of new Set(text.match(/[A-Za-z_$][\w$]*/g))) filesOf.set(word, (filesOf.get(word) ?? 0) + 1);
  }
  return [...code].flatMap(([path, text]) =>
    [...text.matchAll(/^export (?:async )?(?:function\*?|class|const) ([\w$]+)/gm)]
      .map(([, name = '']) => name)
      .filter((name) => filesOf.get(name) === 1)
      .map((name) => `${path}: ${name}`),
  );
}

describe('the lint', () => {
  const eslint = new ESLint({ cwd: root });

  /** The rules that a snippet breaks when it stands in the place of a file. */
  async function broken(path: string, code: string): Promise<readonly string[]> {
    const [result] = await eslint.lintText(code, { filePath: join(root, path) });
    const messages = result?.messages ?? [];
    const fatal = messages.find((message) => message.fatal);
    if (fatal !== undefined) throw new Error(`${path}: ${fatal.message}`);
    return messages.map((message) => message.ruleId ?? '');
  }

  const core = 'packages/protocol/src/index.ts';
  const planted: readonly (readonly [what: string, path: string, rule: string, code: string])[] = [
    [
      'a floating promise',
      core,
      '@typescript-eslint/no-floating-promises',
      'async function sync(): Promise<void> { await Promise.resolve(); }\nsync();\n',
    ],
    [
      'a promise where void is expected',
      core,
      '@typescript-eslint/no-misused-promises',
      '[1].forEach(async () => { await Promise.resolve(); });\n',
    ],
    ['any', core, '@typescript-eslint/no-explicit-any', 'export const a: any = 1;\n'],
    ['a thrown string', core, '@typescript-eslint/only-throw-error', "throw 'no';\n"],
    [
      'a switch that forgets a case',
      core,
      '@typescript-eslint/switch-exhaustiveness-check',
      "export function f(a: 'x' | 'y'): void { switch (a) { case 'x': break; } }\n",
    ],
    ['Date.now in core', core, 'no-restricted-properties', 'export const now = Date.now();\n'],
    ['new Date() in core', core, 'no-restricted-syntax', 'export const now = new Date();\n'],
    ['Math.random in core', core, 'no-restricted-properties', 'export const dice = Math.random();\n'],
    ['setTimeout in core', core, 'no-restricted-globals', 'setTimeout(() => undefined, 1);\n'],
    ['globalThis.setTimeout in core', core, 'no-restricted-globals', 'globalThis.setTimeout(() => undefined, 1);\n'],
    ['process in core', core, 'no-restricted-globals', 'export const pid = process.pid;\n'],
    ['performance in core', core, 'no-restricted-globals', 'export const t = performance.now();\n'],
    ['console in core', core, 'no-console', "console.log('x');\n"],
    ['node:fs in core', core, 'no-restricted-imports', "export { readFileSync } from 'node:fs';\n"],
    ['node:net in core', core, 'no-restricted-imports', "export { connect } from 'node:net';\n"],
    ['fs without its prefix', core, 'no-restricted-imports', "export { readFileSync } from 'fs';\n"],
    ['randomBytes in core', core, 'no-restricted-imports', "export { randomBytes } from 'node:crypto';\n"],
    [
      'a dynamic import of a Node module in core',
      core,
      'no-restricted-syntax',
      "export const fs = await import('node:fs');\n",
    ],
    ['the real world in core', core, 'no-restricted-imports', "export * from '@rephub/platform/node';\n"],
    ['hub from agent', 'packages/agent/src/index.ts', 'no-restricted-imports', "export * from '@rephub/hub';\n"],
    ['agent from hub', 'packages/hub/src/index.ts', 'no-restricted-imports', "export * from '@rephub/agent';\n"],
    ['bitmap from hub', 'packages/hub/src/index.ts', 'no-restricted-imports', "export * from '@rephub/bitmap';\n"],
    [
      'an undeclared sibling',
      'packages/bitmap/src/index.ts',
      'no-restricted-imports',
      "export * from '@rephub/nbd';\n",
    ],
    [
      'a sibling from the leaf',
      'packages/platform/src/node/index.ts',
      'no-restricted-imports',
      "export * from '@rephub/protocol';\n",
    ],
    ['a deep import', 'packages/agent/src/index.ts', 'no-restricted-imports', "export * from '@rephub/nbd/uri';\n"],
    [
      'another package by its path',
      'packages/agent/src/index.ts',
      'no-restricted-imports',
      "export * from '../../nbd/src/index.js';\n",
    ],
    [
      'the kit from a package',
      'packages/agent/src/index.ts',
      'no-restricted-imports',
      "export * from '../../../test/kit/process.js';\n",
    ],
    ['a deep import in a test', 'test/house.test.ts', 'no-restricted-imports', "export * from '@rephub/nbd/uri';\n"],
    [
      'a package by its path in a test',
      'test/house.test.ts',
      'no-restricted-imports',
      "export * from '../packages/nbd/src/index.js';\n",
    ],
    [
      'a floating promise in a test',
      'test/house.test.ts',
      '@typescript-eslint/no-floating-promises',
      'Promise.resolve(1);\n',
    ],
    ['a comment that switches a rule off', core, '', '/* eslint no-console: 0 */\n'],
  ];
  test.for(planted)('finds %s', { timeout: 60_000 }, async ([, path, rule, code]) => {
    const found = await broken(path, code);
    if (rule === '') expect(found.length).toBeGreaterThan(0);
    else expect(found).toContain(rule);
  });

  const allowed: readonly (readonly [what: string, path: string, code: string])[] = [
    [
      'a declared sibling',
      'packages/agent/src/index.ts',
      "export * from '@rephub/nbd';\nexport * from '@rephub/platform';\n",
    ],
    [
      'pure modules of Node in core',
      core,
      "export { crc32 } from 'node:zlib';\nexport { createHash } from 'node:crypto';\n",
    ],
    ['a given time in core', core, 'export const epoch = new Date(0);\n'],
    [
      'files in the node platform',
      'packages/platform/src/node/index.ts',
      "export { readFileSync } from 'node:fs';\nexport const now = Date.now();\n",
    ],
  ];
  test.for(allowed)('lets %s pass', { timeout: 60_000 }, async ([, path, code]) => {
    expect(await broken(path, code)).toEqual([]);
  });
});

describe('the sources', () => {
  test('no file is longer than 450 lines; a file of tests, being a list, than 650', () => {
    const most = (path: string): number => (path.endsWith('.test.ts') ? 650 : 450);
    const long = sources
      .map((path) => ({ path, lines: read(path).split('\n').length - 1 }))
      .filter(({ path, lines }) => lines > most(path));
    expect(long).toEqual([]);
  });

  test('no test is skipped, singled out or left to do', () => {
    const left = /\b(test|it|describe)\.(only|skip|todo|skipIf|runIf|fails)\b|\b[fx](it|describe)\(/;
    const tests = sources.filter((path) => path.endsWith('.test.ts') && basename(path) !== 'house.test.ts');
    expect(tests.filter((path) => left.test(read(path)))).toEqual([]);
  });

  test('no rule of the compiler or the lint is switched off in a comment', () => {
    const off = /@ts-(ignore|nocheck|expect-error)|eslint-disable|prettier-ignore/;
    expect(sources.filter((path) => basename(path) !== 'house.test.ts' && off.test(read(path)))).toEqual([]);
  });

  test('nothing is left to do: no TODO, FIXME or XXX', () => {
    const left = /\b(TODO|FIXME|XXX)\b/;
    expect(sources.filter((path) => basename(path) !== 'house.test.ts' && left.test(read(path)))).toEqual([]);
  });

  test('no files of the packages import one another in a circle', () => {
    const code = sources.filter((path) => /^packages\/.*\.ts$/.test(path));
    expect(circles(new Map(code.map((path) => [path, importsOf(path, read(path))])))).toEqual([]);
  });

  test('no two folders of a package import each other', () => {
    const code = sources.filter((path) => /^packages\/.*\.ts$/.test(path) && !/\.test\.ts$|\/testing\//.test(path));
    expect(mutualFolders(new Map(code.map((path) => [path, importsOf(path, read(path))])))).toEqual([]);
  });

  test('two folders that import each other are found', () => {
    const imports = new Map([
      ['packages/p/src/index.ts', ['packages/p/src/a/one.ts']],
      ['packages/p/src/a/one.ts', ['packages/p/src/b/in/two.ts', 'packages/p/src/types.ts']],
      ['packages/p/src/b/three.ts', ['packages/p/src/a/one.ts']],
    ]);
    expect(mutualFolders(imports)).toEqual(['packages/p/src/a <-> packages/p/src/b']);
  });

  test('a circle is found', () => {
    const a = importsOf('p/a.ts', "import type { B } from './b.js';\nimport { readFile } from 'node:fs';\n");
    const b = importsOf('p/b.ts', "export {\n  C,\n} from './in/c.js';\nconst lazy = await import('./d.js');\n");
    const c = importsOf('p/in/c.ts', "import '../a.js';\n");
    expect([a, b, c]).toEqual([['p/b.ts'], ['p/in/c.ts', 'p/d.ts'], ['p/a.ts']]);
    expect(circles(new Map(Object.entries({ 'p/a.ts': a, 'p/b.ts': b, 'p/in/c.ts': c, 'p/d.ts': [] })))).toEqual([
      ['p/a.ts', 'p/b.ts', 'p/in/c.ts'],
    ]);
  });

  test('what a file exports is used by another one', () => {
    const code = new Map(files.filter((path) => path.endsWith('.ts')).map((path) => [path, read(path)]));
    expect(unusedExports(code)).toEqual([]);
  });

  test('an export that nobody uses is found', () => {
    const files = new Map([
      ['a.ts', 'export const used = 1;\nexport async function unused(): Promise<void> {\n  await unused();\n}\n'],
      ['b.ts', "import { used } from './a.js';\nconsole.log(used);\n"],
    ]);
    expect(unusedExports(files)).toEqual(['a.ts: unused']);
  });

  test('every source file says at its head, or at what it exports, what it is for', () => {
    const bare = sources.filter(
      (path) =>
        path.endsWith('.ts') &&
        !/(\/index|\.config|\.test)\.ts$/.test(path) &&
        !/^(#!.*\n)?\s*(\/\/|\/\*)/m.test(read(path)),
    );
    expect(bare).toEqual([]);
  });
});

/** What stands in backticks and is a file of ours, or a folder of packages, test, bench or scripts; `*` stands for any letters. */
function namedPaths(text: string): readonly RegExp[] {
  return [...text.matchAll(/`((?:packages|test|bench|scripts)\/[\w./*-]*[\w*]|[\w./*-]+\.ts)`/g)].map(
    ([, path = '']) => new RegExp(`(^|/)${path.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}(/|\\.|$)`),
  );
}

describe('the map', () => {
  const packages = [
    ...new Set(files.map((path) => /^packages\/([^/]+)\//.exec(path)?.[1]).filter((name) => name !== undefined)),
  ];

  test('README names every package', () => {
    const readme = read('README.md');
    expect(packages.filter((name) => !readme.includes(`packages/${name}`))).toEqual([]);
  });

  test('README names every folder of tests', () => {
    const readme = read('README.md');
    const folders = [
      ...new Set(files.map((path) => /^test\/([^/]+)\//.exec(path)?.[1]).filter((name) => name !== undefined)),
    ];
    expect(folders.filter((name) => !readme.includes(`test/${name}`))).toEqual([]);
  });

  test('files and folders that the documents name are there', () => {
    const documents = files.filter((path) => /^(README|CONTRIBUTING|docs\/.*)\.md$/.test(path));
    const gone = documents.flatMap((path) =>
      namedPaths(read(path))
        .filter((named) => !files.some((file) => named.test(file)))
        .map((named) => `${path}: ${named.source}`),
    );
    expect(gone).toEqual([]);
  });

  test('what a document names is told apart from what it does not', () => {
    const text = 'see `test/kit`, `frame*.test.ts` and `upstream/` (`a/b.ts`), not `npm run x`, `a.b` or `src/node/`';
    expect(namedPaths(text).map(({ source }) => source)).toEqual([
      '(^|\\/)test\\/kit(\\/|\\.|$)',
      '(^|\\/)frame[^/]*\\.test\\.ts(\\/|\\.|$)',
      '(^|\\/)a\\/b\\.ts(\\/|\\.|$)',
    ]);
  });

  test('links in the documents lead somewhere', () => {
    const dead = files
      .filter((path) => path.endsWith('.md'))
      .flatMap((path) =>
        [...read(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#]+)/g)]
          .map((match) => join(path, '..', match[1] ?? ''))
          .filter(
            (target) => !files.some((file) => file === target || file.startsWith(`${target.replace(/\/$/, '')}/`)),
          )
          .map((target) => `${path} -> ${target}`),
      );
    expect(dead).toEqual([]);
  });
});
