// Typed lint. Besides the common rules it keeps the arrows between packages one way and the outside world
// (clock, timers, randomness, files, sockets) out of core files; each ban says why.
import tseslint from 'typescript-eslint';

const ours = (names) => ({
  group: names.map((name) => `@rephub/${name}`).concat(names.map((name) => `@rephub/${name}/*`)),
  message: 'Arrows between packages go one way; see CONTRIBUTING.md.',
});
const deep = {
  regex: '^@rephub/[^/]+/(?!node$)',
  message: "A package's only door is its index.",
};

const outsideModules = ['node:fs', 'node:fs/promises', 'node:net', 'node:tls', 'node:dgram', 'node:timers', 'node:timers/promises', 'node:child_process', 'node:worker_threads', 'node:process', 'node:perf_hooks', 'fs', 'net'];
const outsideGlobals = ['setTimeout', 'setInterval', 'setImmediate', 'performance', 'process', 'fetch', 'WebSocket'];
const outsideProperties = [
  { object: 'Date', property: 'now', message: 'Take the time from Clock, so that a run can be simulated.' },
  { object: 'Math', property: 'random', message: 'Take randomness from Randomness, so that a seed decides the run.' },
  { object: 'crypto', property: 'randomBytes', message: 'Take randomness from Randomness.' },
  { object: 'crypto', property: 'randomUUID', message: 'Take randomness from Randomness.' },
];

/** Files that are the thin shell: they meet the real world. */
const shell = [
  'packages/platform/src/node/**',
  'packages/command/src/**',
  'packages/*/src/**/*main.ts',
  'packages/*/src/cli/**',
  'packages/*/src/**/*.test.ts',
  'test/**',
  'bench/**',
  'vitest.config.ts',
  'eslint.config.js',
];

const imports = (forbidden, extraPaths = []) => [
  'error',
  {
    patterns: [ours(forbidden), deep],
    paths: extraPaths,
  },
];
const outside = outsideModules.map((name) => ({ name, message: 'Core files reach the outside through @rephub/platform.' }));
const FORBIDDEN = {
  platform: ['command', 'protocol', 'bitmap', 'nbd', 'agent', 'hub'],
  command: ['protocol', 'bitmap', 'nbd', 'agent', 'hub'],
  protocol: ['command', 'bitmap', 'nbd', 'agent', 'hub'],
  bitmap: ['command', 'protocol', 'nbd', 'agent', 'hub'],
  nbd: ['command', 'protocol', 'bitmap', 'agent', 'hub'],
  agent: ['hub'],
  hub: ['agent', 'bitmap'],
};

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'bench/results/**'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['eslint.config.js'] }, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/return-await': ['error', 'always'],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true, ignoreVoidOperator: true }],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/unbound-method': ['error', { ignoreStatic: true }],
      eqeqeq: 'error',
      'no-console': 'error',
      'max-lines': ['error', { max: 450, skipBlankLines: true, skipComments: true }],
    },
  },
  ...Object.entries(FORBIDDEN).flatMap(([name, forbidden]) => [
    {
      files: [`packages/${name}/src/**/*.ts`],
      ignores: shell,
      rules: {
        'no-restricted-imports': imports(forbidden.concat(), outside),
        'no-restricted-globals': ['error', ...outsideGlobals.map((global) => ({ name: global, message: 'Core files take time, randomness and the process from outside (see @rephub/platform).' }))],
        'no-restricted-properties': ['error', ...outsideProperties],
      },
    },
    {
      files: [`packages/${name}/src/**/*.ts`].flat(),
      ignores: [],
      rules: {},
    },
  ]),
  ...Object.entries(FORBIDDEN).map(([name, forbidden]) => ({
    files: [`packages/${name}/src/**/*main.ts`, `packages/${name}/src/cli/**/*.ts`, `packages/${name}/src/node/**/*.ts`, `packages/${name}/src/**/*.test.ts`],
    rules: { 'no-restricted-imports': imports(forbidden) },
  })),
  { files: ['test/**', 'bench/**', '**/*main.ts', 'packages/*/src/cli/**'], rules: { 'no-console': 'off' } },
  { files: ['**/*.test.ts'], rules: { '@typescript-eslint/no-non-null-assertion': 'off', 'max-lines': 'off' } },
  { files: ['eslint.config.js'], extends: [tseslint.configs.disableTypeChecked], rules: { '@typescript-eslint/explicit-module-boundary-types': 'off' } },
);
