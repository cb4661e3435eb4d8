// Typed lint. Besides the common rules it keeps two things that people forget:
//   1. the arrows between packages go one way, through each package's index, and only to what package.json lists;
//   2. core files meet no clock, timer, randomness, file, socket or process of their own, so that a run can be simulated.
// Every ban says why. test/house.test.ts plants a violation of each and expects it to be found.
import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** Which packages of ours each package may import. The table in CONTRIBUTING.md shows the same. */
const ARROWS = {
  platform: [],
  command: ['platform'],
  protocol: ['platform'],
  bitmap: ['platform'],
  nbd: ['platform'],
  agent: ['platform', 'command', 'protocol', 'bitmap', 'nbd'],
  hub: ['platform', 'command', 'protocol', 'nbd'],
};

/** The thin shell of a package: files that meet the real world. All others are core. */
const SHELL = [
  'src/node/**',
  'src/**/testing/**',
  'src/cli/**',
  'src/**/main.ts',
  'src/**/*-main.ts',
  'src/**/*.test.ts',
];

/** Modules of Node that only compute. */
const PURE_MODULES = ['assert', 'buffer', 'crypto', 'events', 'path', 'string_decoder', 'url', 'util', 'zlib'];

const OUTSIDE = 'Core files reach the outside through @rephub/platform, so that a run can be simulated.';

const restrict = (patterns, paths = []) => ['error', { patterns, paths }];

const anywhere = [
  { regex: `^(${builtinModules.join('|')})$`, message: 'Write node:NAME, so that no package can stand in for it.' },
  {
    regex: '^@rephub/[^/]+/(?!(node|sim)$)',
    message: "A package's only door is its index (and /node, /sim of platform).",
  },
  { regex: '(^|/)(src|dist)/', message: 'Import a package by its name, not by its files.' },
];

const between = (name) => {
  const declared = JSON.parse(
    readFileSync(new URL(`packages/${name}/package.json`, import.meta.url), 'utf8'),
  ).dependencies;
  const open = ARROWS[name].filter((other) => `@rephub/${other}` in (declared ?? {}));
  return [
    ...anywhere,
    {
      regex: `^@rephub/(?!(${[...open, '-'].join('|')})(/|$))`,
      message: `${name} may import only ${open.join(', ') || 'nothing'} of ours: arrows go one way (CONTRIBUTING.md), and package.json lists them.`,
    },
    { regex: '(^|/)test/', message: 'Unit tests need no real peers; what does lives in test/.' },
  ];
};

const coreRules = (name) => ({
  'no-restricted-imports': restrict(
    [
      ...between(name),
      { regex: `^node:(?!(${PURE_MODULES.join('|')})$)`, message: OUTSIDE },
      {
        regex: '^@rephub/platform/',
        message: 'Only the commands and tests choose between the real and the simulated world.',
      },
    ],
    [
      {
        name: 'node:crypto',
        allowImportNames: ['createCipheriv', 'createHash', 'createHmac', 'timingSafeEqual', 'Hash', 'Hmac'],
        message: 'Take randomness from Randomness, so that a seed decides the run.',
      },
    ],
  ),
  'no-restricted-globals': [
    'error',
    {
      globals: [
        'setTimeout',
        'setInterval',
        'setImmediate',
        'performance',
        'process',
        'crypto',
        'fetch',
        'WebSocket',
        'require',
      ].map((global) => ({ name: global, message: OUTSIDE })),
      checkGlobalObject: true,
    },
  ],
  'no-restricted-properties': [
    'error',
    { object: 'Date', property: 'now', message: OUTSIDE },
    { object: 'Math', property: 'random', message: OUTSIDE },
    { object: 'AbortSignal', property: 'timeout', message: OUTSIDE },
  ],
  'no-restricted-syntax': [
    'error',
    { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: OUTSIDE },
    { selector: "CallExpression[callee.name='Date']", message: OUTSIDE },
    {
      selector: 'ImportExpression[source.value=/^(node:|@rephub)/]',
      message: 'Import our own and Node modules at the head of the file, where the bans see them.',
    },
  ],
});

export default defineConfig(
  { ignores: ['packages/*/bin/**', '**/dist/**', '**/coverage/**', 'bench/results/**'] },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    linterOptions: { reportUnusedDisableDirectives: 'error', noInlineConfig: true },
    rules: {
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/return-await': ['error', 'always'],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidOperator: true },
      ],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/unbound-method': ['error', { ignoreStatic: true }],
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-imports': restrict(anywhere),
    },
  },
  Object.keys(ARROWS).flatMap((name) => {
    const within = (globs) => globs.map((glob) => `packages/${name}/${glob}`);
    // command talks to the real process by its nature: all of it is shell.
    const shell = name === 'command' ? within(['src/**']) : within(SHELL);
    return [
      { files: within(['src/**/*.ts']), rules: { 'no-restricted-imports': restrict(between(name)) } },
      { files: within(['src/**/*.ts']), ignores: shell, rules: coreRules(name) },
    ];
  }),
  {
    files: ['test/**', 'bench/**', '**/main.ts', '**/*-main.ts', 'packages/*/src/cli/**'],
    rules: { 'no-console': 'off' },
  },
  // A bench may measure a part that no package shows.
  { files: ['bench/**'], rules: { 'no-restricted-imports': restrict(anywhere.slice(0, 1)) } },
  { files: ['**/*.test.ts'], rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
  {
    files: ['eslint.config.js'],
    extends: [tseslint.configs.disableTypeChecked],
    rules: { '@typescript-eslint/explicit-module-boundary-types': 'off' },
  },
);
