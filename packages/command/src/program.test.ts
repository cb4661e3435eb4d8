import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigFault, LinkFault, StorageFault } from '@rephub/platform';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { CommandFailure, EXIT } from './exit.js';
import { flag, optional, repeated, required, scalar, structure, type ValuesOf, withDefault } from './options.js';
import { command, type CommandContext, type ProgramSpec, runProgram } from './program.js';
import { address, choice, count, duration, name, orWord, rate, size, text, yesNo } from './types.js';

const volume = z.strictObject({
  name: scalar(name()),
  upstream: scalar(text()),
  listen: scalar(text()).optional(),
});
const runOptions = {
  group: required(name(), { placeholder: 'NAME', help: 'the VM' }),
  volumes: structure(z.array(volume).min(1), { help: 'list of {name, upstream, listen}' }),
  hub: repeated(text(), { placeholder: 'URL', help: 'hub to mirror to' }),
  mode: withDefault(choice('async', 'semi-sync', 'sync'), 'async', { placeholder: 'MODE', help: 'when to answer' }),
  window: withDefault(size({ min: 65_536 }), '64MiB', { placeholder: 'BYTES', help: 'bytes in flight at most' }),
  'max-rate': withDefault(orWord('none', null, rate()), 'none', { placeholder: 'RATE', help: 'bound of a resync' }),
  retries: withDefault(orWord('forever', Infinity, count()), '5', { placeholder: 'COUNT', help: 'attempts' }),
  'retry-delay': withDefault(duration({ max: 3_600_000 }), '2s', {
    placeholder: 'TIME',
    help: 'pause between attempts',
  }),
  'retry-exponential': withDefault(yesNo(), 'yes', { placeholder: 'yes|no', help: 'double the pause' }),
  http: optional(address(), { placeholder: 'ADDR', help: 'metrics' }),
  token: optional(text(), { placeholder: 'TOKEN', help: 'credential', secret: true }),
  insecure: flag({ help: 'allow listening without TLS' }),
  yes: flag({ help: 'do it', inFile: false }),
};
type RunValues = ValuesOf<typeof runOptions>;

let directory: string;
let ran: { values: RunValues; context: CommandContext } | null;
let behave: () => Promise<0 | 1 | 2 | 75 | undefined>;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rephub-command-'));
  ran = null;
  behave = () => Promise.resolve(undefined);
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const program: ProgramSpec = {
  name: 'repagent',
  version: '1.2.3',
  summary: 'Mirrors a VM',
  environmentPrefix: 'REPAGENT',
  commands: [
    command({
      name: 'run',
      summary: 'proxy and mirror',
      options: runOptions,
      takesFile: true,
      examples: ['repagent run -c /etc/repagent/vm1.yaml'],
      check: ({ mode, hub }) => {
        if (mode === 'sync' && hub.length === 0) throw new ConfigFault('missing-option', '--mode sync needs a --hub');
      },
      run: (values, context) => {
        ran = { values, context };
        return behave();
      },
    }),
    command({
      name: 'checkpoint create',
      summary: 'name a point',
      arguments: [
        { name: 'GROUP', help: 'of which VM' },
        { name: 'POINT', help: 'when', optional: true },
      ],
      options: { at: optional(text(), { placeholder: 'POINT', help: 'when' }) },
      run: (values, context) => {
        context.out(`${context.arguments.join('+')} ${values.at ?? '-'}\n`);
        return Promise.resolve(undefined);
      },
    }),
  ],
};

async function run(
  line: string,
  environment: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runProgram(program, {
    arguments: line.split(' ').filter((word) => word !== ''),
    environment,
    out: (part) => (out += part),
    err: (part) => (err += part),
  });
  return { code, out, err };
}

function file(content: string): string {
  const path = join(directory, 'vm1.yaml');
  writeFileSync(path, content);
  return path;
}

describe('a command', () => {
  it('gets its values typed and with every default filled in', async () => {
    expect(await run('run --group vm1')).toEqual({ code: 0, out: '', err: '' });
    expect(ran?.values).toEqual({
      group: 'vm1',
      volumes: undefined,
      hub: [],
      mode: 'async',
      window: 64 * 2 ** 20,
      maxRate: null,
      retries: 5,
      retryDelay: 2000,
      retryExponential: true,
      http: undefined,
      token: undefined,
      insecure: false,
      yes: false,
    });
  });

  it('takes flag over environment over file over default', async () => {
    const path = file('group: fromfile\nwindow: 1MiB\nmode: sync\nhub: [tcp://file:1]\nretry-delay: 3\n');
    const environment = { REPAGENT_WINDOW: '2MiB', REPAGENT_MODE: 'semi-sync', REPAGENT_HUB: 'tcp://a:1 tcp://b:2' };
    expect(await run(`run -c ${path} --window 3MiB`, environment)).toMatchObject({ code: 0, err: '' });
    expect(ran?.values).toMatchObject({
      group: 'fromfile',
      window: 3 * 2 ** 20,
      mode: 'semi-sync',
      hub: ['tcp://a:1', 'tcp://b:2'],
      retryDelay: 3000,
      retries: 5,
    });
  });

  it('takes repeated options, equals signs, flags, addresses and values that begin with a dash', async () => {
    await run('run --group=vm1 --hub tcp://a:1 --hub tcp://b:2 --insecure --http [::1]:9011 --retries forever');
    expect(ran?.values).toMatchObject({
      hub: ['tcp://a:1', 'tcp://b:2'],
      insecure: true,
      http: { kind: 'tcp', host: '::1', port: 9011 },
      retries: Infinity,
    });
    expect((await run('checkpoint create vm1 --at -15m')).out).toBe('vm1 -15m\n');
  });

  it('takes nested lists from the file, checked', async () => {
    const path = file(
      'group: vm1\nvolumes:\n  - name: 0\n    upstream: file:/x\n  - {name: disk1, upstream: "nbd://h/x"}\n',
    );
    expect(await run(`run -c ${path}`)).toMatchObject({ code: 0, err: '' });
    expect(ran?.values.volumes).toEqual([
      { name: '0', upstream: 'file:/x' },
      { name: 'disk1', upstream: 'nbd://h/x' },
    ]);
    for (const [content, message] of [
      ['volumes: [{name: a b, upstream: x}]', `volumes[0].name: "a b" is not allowed, expected a name of`],
      [
        'volumes: [{name: a, upstrem: x, upstream: y}]',
        'volumes[0]: unknown key "upstrem"; did you mean "upstream"?\n',
      ],
      [
        'volumes: [{name: a, upstream: y, size: 3, x: 1}]',
        'volumes[0]: unknown key "size"; there are name, upstream, listen\n',
      ],
      ['volumes: {name: a}', 'volumes: "{"name":"a"}" is not allowed, expected a list'],
      ['volumes: [disk0]', 'volumes[0]: "disk0" is not allowed, expected keys and values'],
      ['volumes: [{name: a}]', 'volumes[0].upstream is missing'],
      ['volumes: disk0', 'volumes: "disk0" is not allowed, expected'],
    ] as const) {
      const result = await run(`run -c ${file(`group: vm1\n${content}\n`)}`);
      expect(result).toMatchObject({
        code: EXIT.wrongUsage,
        err: expect.stringContaining(`${path}: ${message}`) as string,
      });
    }
  });
});

describe('what looks like a number or a boolean in the file', () => {
  it.each(['007', '1e3', '0x10', '0o17', '12345678901234567890', '1.0', 'True', 'FALSE', '7', 'true'])(
    'is the name %s as it was written',
    async (word) => {
      const path = file(`group: ${word}\nhub: [${word}]\nvolumes: [{name: &n ${word}, upstream: *n }]\n`);
      expect(await run(`run -c ${path}`)).toMatchObject({ code: 0, err: '' });
      expect(ran?.values).toMatchObject({ group: word, hub: [word], volumes: [{ name: word, upstream: word }] });
      const printed = (await run(`run -c ${path} --print-config`)).out;
      await run(`run -c ${file(printed)}`);
      expect(ran?.values).toMatchObject({ group: word, volumes: [{ name: word }] });
    },
  );

  it('is yes or no where that is asked for, in any case', async () => {
    for (const word of ['yes', 'Yes', 'true', 'True', 'TRUE', '1']) {
      await run(`run -c ${file(`group: vm1\ninsecure: ${word}\nretry-exponential: no\n`)}`);
      expect(ran?.values, word).toMatchObject({ insecure: true, retryExponential: false });
    }
    expect((await run(`run -c ${file('group: vm1\ninsecure: 01\n')}`)).err).toContain('insecure: "01"');
  });
});

describe('wrong usage', () => {
  it.each([
    ['run', '--group NAME is required (also REPAGENT_GROUP, or "group" in the file of -c)'],
    ['run --group latest', '--group: "latest" is not allowed, expected another name (latest is reserved)'],
    ['run --group vm1 --window 12x', '--window: "12x" is not allowed, expected a size such as 4096, 64KiB or 1.5GiB'],
    ['run --group vm1 --window 1K', '--window: "1K" is not allowed, expected at least 64 KiB'],
    ['run --group vm1 --mode fast', '--mode: "fast" is not allowed, expected async, semi-sync or sync'],
    ['run --group vm1 --max-rate x', 'or none'],
    ['run --group vm1 --http nowhere', '--http: "nowhere" is not allowed, expected HOST:PORT, [V6]:PORT or unix:PATH'],
    ['run --group vm1 --windw 1M', "unknown option '--windw' (Did you mean --window?)"],
    ['run --group vm1 --window', 'argument missing'],
    ['run --group vm1 stray', 'too many arguments'],
    ['rum', "unknown command 'rum' (Did you mean run?)"],
    ['rum --help', "unknown command 'rum' (Did you mean run?)"],
    ['checkpoint list --help', "unknown command 'list'"],
    ['help list', "unknown command 'list'"],
    ['checkpoint create', "missing required argument 'GROUP'"],
    ['run --group vm1 --mode sync', '--mode sync needs a --hub'],
    ['run -c /no/such/file', '-c /no/such/file: cannot read the file: no such file or directory (ENOENT)'],
  ])('%s', async (line, message) => {
    const result = await run(line);
    expect(result.err).toContain(message);
    expect(result.err).toMatch(/^repagent: [^\n]*\n$/);
    expect([result.code, result.out, ran]).toEqual([EXIT.wrongUsage, '', null]);
  });

  it('names environment variables and the file as the place of a wrong value', async () => {
    expect((await run('run --group vm1', { REPAGENT_RETRIES: 'many' })).err).toContain(
      'REPAGENT_RETRIES: "many" is not allowed',
    );
    const path = file('group: vm1\nretries: [1, 2]\n');
    expect((await run(`run -c ${path}`)).err).toContain(
      `${path}: retries: "[1,2]" is not allowed, expected a single value`,
    );
    expect((await run(`run -c ${file('group:\n')}`)).err).toContain('group: has no value');
  });

  it.each([
    ['group: vm1\nmax_rate: 5\n', 'unknown key "max_rate"; did you mean "max-rate"?'],
    ['group: vm1\nyes: true\n', 'unknown key "yes"'],
    ['group: vm1\ngroup: vm2\n', 'line 2, column 1: this key is there twice'],
    ['group: [vm1\n', 'line 2, column 1: the line begins in the wrong column, or a bracket before it is open'],
    ['group: vm1\nupstream: file: /x\n', 'line 2, column 11: a second ": " in this value'],
    ['group: vm1\nupstream: file:/x\n  hub: x\n', 'line 2, column 11: a second ": " in this value, or a line below it'],
    ['group: "vm1\n', 'line 2, column 1: up to here a closing quote'],
    ['group: vm1\n\tmode: sync\n', 'line 2, column 1: a tab in front of a line: use spaces'],
    ['group: @vm1\n', 'line 1, column 8: a value cannot begin with this character: put the value in quotes'],
    ['group: *vm1\n', 'line 1, column 8: a value that begins with "*"'],
    ['group: vm1\n---\ngroup: vm2\n', 'line 2, column 1: "---" begins a second document'],
    ['group: vm1\nmode sync\n', 'line 2, column 1: up to here a closing quote or bracket, a comma, or the ": "'],
    ['group: [a]b\n', 'line 1, column 11: this is no YAML (Unexpected scalar at node end)'],
    [`a: &a [1]\nb: &b [${'*a,'.repeat(20)}]\nc: [${'*b,'.repeat(20)}]\n`, 'write the values out instead of "*"'],
    ['- group\n', 'expected keys and values'],
  ])('in the file: %j', async (content, message) => {
    const result = await run(`run -c ${file(content)}`);
    expect([result.code, ran]).toEqual([EXIT.wrongUsage, null]);
    expect(result.err).toContain(message);
    expect(result.err).toContain('vm1.yaml');
  });
});

describe('what a program prints', () => {
  it('its version and its help, with defaults, within 80 columns', async () => {
    expect(await run('--version')).toEqual({ code: 0, out: 'repagent 1.2.3\n', err: '' });
    const { code, out, err } = await run('run --help');
    expect([code, err]).toEqual([0, '']);
    for (const part of [
      'Usage: repagent run [options]',
      '--group NAME',
      '(required)',
      '--window BYTES',
      '(default: 64MiB)',
      '(repeatable)',
      '--print-config',
      'volumes  list of {name, upstream, listen}',
      'REPAGENT_GROUP for --group',
      'repagent run -c /etc/repagent/vm1.yaml',
    ]) {
      expect(out).toContain(part);
    }
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    expect((await run('--help')).out).toContain('proxy and mirror');
    expect((await run('--help')).out).toMatch(/^ {2}checkpoint +create: name a point$/m);
    expect(await run('')).toMatchObject({
      code: EXIT.wrongUsage,
      err: expect.stringContaining('Usage: repagent') as string,
    });
    expect(await run('checkpoint')).toMatchObject({
      code: EXIT.wrongUsage,
      err: expect.stringContaining('create') as string,
    });
  });

  it('what each option with a fixed set of values takes', async () => {
    const help = (await run('run --help')).out.replace(/\s+/g, ' ');
    expect(help).toContain('when to answer (values: async, semi-sync, sync; default: async)');
    expect(help).toContain('double the pause (values: yes, no; default: yes)');
    expect(help).toContain('bytes in flight at most (default: 64MiB)');
  });

  it('the same help for help NAME as for NAME --help', async () => {
    expect(await run('help')).toEqual(await run('--help'));
    expect(await run('help run')).toEqual(await run('run --help'));
    expect(await run('help checkpoint create')).toEqual(await run('checkpoint create --help'));
  });

  it('the configuration as it comes out, which -c takes again, without secrets', async () => {
    const environment = { REPAGENT_TOKEN: 'geheim', REPAGENT_HUB: 'tcp://user:geheim@h:1' };
    const path = file('group: vm1\nvolumes: [{name: disk0, upstream: "file:/x"}]\n');
    const { code, out } = await run(`run -c ${path} --window 1M --yes --print-config`, environment);
    expect([code, ran]).toEqual([0, null]);
    expect(out).not.toContain('geheim');
    expect(out.split('\n')).toEqual(
      expect.arrayContaining(['group: vm1', 'window: 1M', 'retries: "5"', '  - tcp://user:***@h:1']),
    );
    await run(`run -c ${file(out)}`);
    expect(ran?.values).toMatchObject({
      group: 'vm1',
      window: 2 ** 20,
      volumes: [{ name: 'disk0', upstream: 'file:/x' }],
    });
  });
});

describe('exit codes', () => {
  it.each([
    [new ConfigFault('bad-value', 'not allowed'), EXIT.wrongUsage],
    [new LinkFault('connect-refused', 'nobody answers'), EXIT.tryAgain],
    [new StorageFault('disk-full', 'no room', { retryable: true }), EXIT.tryAgain],
    [new StorageFault('io-error', 'disk broken'), EXIT.failed],
    [new CommandFailure(EXIT.failed, 'contents differ'), EXIT.failed],
    [new TypeError('a mistake\n of ours'), EXIT.failed],
  ])('%s ends with one line and its code', async (error, code) => {
    behave = () => Promise.reject(error);
    const result = await run('run --group vm1');
    expect(result.code).toBe(code);
    expect(result.err).toMatch(/^repagent: [^\n]+\n$/);
    expect(result.err).not.toContain('    at ');
  });

  it('show the stack when debugging, and pass the code that a command returns', async () => {
    behave = () => Promise.reject(new StorageFault('io-error', 'disk broken', { cause: new Error('EIO') }));
    const { err } = await run('run --group vm1', { REPHUB_DEBUG: '1' });
    expect(err).toContain('    at ');
    expect(err).toContain('Caused by: Error: EIO');
    behave = () => Promise.resolve(EXIT.tryAgain);
    expect((await run('run --group vm1')).code).toBe(75);
  });
});
