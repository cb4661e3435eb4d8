/**
 * A program with its commands: reads the arguments, resolves the options, runs the command, maps what it
 * throws to an exit code and a line on stderr.
 *
 * Always holds: nothing of a command runs before all its options have been checked; a run never calls
 * process.exit by itself (main does, see `runMain`).
 */
import { ConfigFault } from '@rephub/platform';
import { Command, CommanderError, Help, Option as CommanderOption } from 'commander';
import { readConfigFile } from './config-file.js';
import { describeError, EXIT, type ExitCode, exitCodeOf } from './exit.js';
import type { Option, OptionTable, RawValue, ValuesOf } from './options.js';
import { environmentName, printConfig, resolveOptions } from './resolve.js';
import { wordsToParse } from './words.js';

export interface ArgumentSpec {
  /** As in the help: `GROUP`. */
  readonly name: string;
  readonly help: string;
  readonly optional?: boolean;
  /** Takes all that follow; only for the last one. */
  readonly many?: boolean;
}

/** Where a command writes. */
export interface Output {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

export interface CommandContext extends Output {
  /** The words after the command, in order; optional ones may be missing. */
  readonly arguments: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface CommandSpec<Table extends OptionTable> {
  /** `run`, `checkpoint create`; empty for a program that is one command. */
  readonly name: string;
  /** One line. */
  readonly summary: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options: Table;
  /** Takes `-c FILE` and `--print-config`. */
  readonly takesFile?: boolean;
  /** Shown at the end of the help. */
  readonly examples?: readonly string[];
  /** Checks between options; throws a ConfigFault. Runs before `--print-config` prints. */
  readonly check?: (values: ValuesOf<Table>) => void;
  /** Nothing returned is 0. */
  readonly run: (values: ValuesOf<Table>, context: CommandContext) => Promise<ExitCode | undefined>;
}

/** A command with its types forgotten, as a program holds it. Made by `command`. */
export interface AnyCommand {
  readonly spec: Omit<CommandSpec<OptionTable>, 'check' | 'run'>;
  resolveAndRun(sources: CommandSources, context: CommandContext): Promise<ExitCode>;
}

export interface ProgramSpec {
  readonly name: string;
  readonly version: string;
  readonly summary: string;
  /** `REPAGENT`. */
  readonly environmentPrefix: string;
  readonly commands: readonly AnyCommand[];
}

export interface World extends Output {
  /** Without the program's own name. */
  readonly arguments: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Of the terminal; 80 when unknown. */
  readonly columns?: number;
}

interface CommandSources {
  readonly flags: ReadonlyMap<string, RawValue>;
  readonly environmentPrefix: string;
  readonly filePath: string | null;
  readonly printConfig: boolean;
}

/** Ties a command's options to what it does with them. */
export function command<const Table extends OptionTable>(spec: CommandSpec<Table>): AnyCommand {
  return {
    spec,
    resolveAndRun: async (given, context) => {
      const { filePath } = given;
      const file = filePath === null ? new Map<string, RawValue>() : await readConfigFile(filePath, spec.options);
      const sources = { ...given, environment: context.environment, file };
      const { values, written } = resolveOptions(spec.options, sources);
      spec.check?.(values);
      if (given.printConfig) {
        context.out(await printConfig(spec.options, written));
        return EXIT.done;
      }
      return (await spec.run(values, context)) ?? EXIT.done;
    },
  };
}

/** Runs the program once; resolves to its exit code, having said on stderr what went wrong. */
export async function runProgram(program: ProgramSpec, world: World): Promise<ExitCode> {
  let code: ExitCode = EXIT.done;
  const root = buildProgram(program, world, async (chosen, sources, words) => {
    code = await chosen.resolveAndRun(sources, {
      arguments: words,
      environment: world.environment,
      out: world.out,
      err: world.err,
    });
  });
  try {
    const names = program.commands.map(({ spec }) => spec.name);
    await root.parseAsync([...wordsToParse(names, world.arguments)], { from: 'user' });
    return code;
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return EXIT.done;
    const error = thrown instanceof CommanderError ? usageFault(thrown) : thrown;
    const debug = world.environment['REPHUB_DEBUG'] === '1';
    if (error !== null) world.err(`${program.name}: ${describeError(error, debug)}\n`);
    return error === null ? EXIT.wrongUsage : exitCodeOf(error);
  }
}

type Chosen = (command: AnyCommand, sources: CommandSources, words: readonly string[]) => Promise<void>;

/** Null when the help has been shown already because no command was named. */
function usageFault(error: CommanderError): ConfigFault | null {
  if (error.code === 'commander.help') return null;
  const message = error.message.replace(/^error: /, '').replace(/\n/g, ' ');
  return new ConfigFault(error.code === 'commander.unknownOption' ? 'unknown-option' : 'wrong-usage', message);
}

function buildProgram(program: ProgramSpec, world: World, chosen: Chosen): Command {
  const root = prepared(new Command(program.name), world).description(program.summary);
  root.version(`${program.name} ${program.version}`, '--version', 'print the version');
  for (const item of program.commands) {
    const parts = item.spec.name.split(' ').filter((part) => part !== '');
    let parent = root;
    for (const part of parts) {
      const existing = parent.commands.find((child) => child.name() === part);
      parent = existing ?? addChild(parent, part, world);
    }
    addCommand(parent, item, program, chosen);
  }
  for (const child of root.commands) {
    if (child.commands.length > 0 && child.description() === '') {
      const [first] = child.commands;
      const alone = first !== undefined && child.commands.length === 1;
      const names = child.commands.map((inner) => inner.name()).join(', ');
      child.description(alone ? `${names}: ${first.description()}` : names);
    }
  }
  return root;
}

function addChild(parent: Command, name: string, world: World): Command {
  const child = prepared(new Command(name), world);
  parent.addCommand(child);
  return child;
}

function prepared(made: Command, world: World): Command {
  return made
    .exitOverride()
    .helpCommand(false)
    .helpOption('-h, --help', 'print this help')
    .showSuggestionAfterError(true)
    .allowExcessArguments(false)
    .configureOutput({
      writeOut: (text) => world.out(text),
      // With an error the message is ours; what is left is the help that a bare command group prints.
      writeErr: (text) => world.err(text),
      outputError: () => undefined,
      getOutHelpWidth: () => Math.min(Math.max(world.columns ?? 80, 60), 120),
      getErrHelpWidth: () => Math.min(Math.max(world.columns ?? 80, 60), 120),
    })
    .configureHelp({
      optionTerm: (option) => option.flags.replace(/[<>]/g, ''),
      argumentTerm: (argument) => argument.name(),
      // Commander would say the default a second time.
      optionDescription: (option) => option.description,
      commandUsage: (own) => new Help().commandUsage(own).replace(/[<>]/g, ''),
      subcommandTerm: (child) => new Help().subcommandTerm(child).replace(/[<>]/g, '').replace(' [options]', ''),
    });
}

function addCommand(target: Command, item: AnyCommand, program: ProgramSpec, chosen: Chosen): void {
  const { spec } = item;
  if (spec.summary !== '') target.description(spec.summary);
  for (const argument of spec.arguments ?? []) {
    const word = argument.many === true ? `${argument.name}...` : argument.name;
    target.argument(argument.optional === true ? `[${word}]` : `<${word}>`, argument.help);
  }
  if (spec.takesFile === true) {
    target.option('-c, --config <FILE>', 'read options from this YAML file');
    target.option('--print-config', 'print the options as they come out, without secrets, and stop');
  }
  for (const [name, option] of Object.entries(spec.options)) {
    if (option.shape !== 'structure') target.addOption(commanderOption(name, option));
  }
  target.addHelpText('after', () => helpAfter(item, program));
  target.action(async () => {
    const given = new Map(Object.entries(target.opts()));
    const filePath: unknown = given.get('config');
    const flags = new Map<string, RawValue>();
    for (const [name, option] of Object.entries(spec.options)) {
      if (option.shape === 'structure') continue;
      const value: unknown = given.get(commanderOption(name, option).attributeName());
      if (value !== undefined) flags.set(name, value);
    }
    const sources: CommandSources = {
      flags,
      environmentPrefix: program.environmentPrefix,
      filePath: typeof filePath === 'string' ? filePath : null,
      printConfig: given.get('printConfig') === true,
    };
    await chosen(item, sources, target.args);
  });
}

function commanderOption(name: string, option: Option<unknown>): CommanderOption {
  const long = option.shape === 'flag' ? `--${name}` : `--${name} <${option.placeholder}>`;
  const flags = option.short === null ? long : `-${option.short}, ${long}`;
  const made = new CommanderOption(flags, option.help + notes(option));
  if (option.shape === 'list') {
    made.argParser((value: string, before: unknown) => [...(Array.isArray(before) ? (before as string[]) : []), value]);
  }
  return made;
}

function notes(option: Option<unknown>): string {
  const all: string[] = [];
  const { defaultText, words } = option;
  if (words !== null) all.push(`values: ${words.join(', ')}`);
  if (option.required) all.push('required');
  if (option.shape === 'list') all.push('repeatable');
  if (defaultText !== undefined)
    all.push(`default: ${typeof defaultText === 'string' ? defaultText : defaultText.join(', ')}`);
  return all.length === 0 ? '' : ` (${all.join('; ')})`;
}

function helpAfter(item: AnyCommand, program: ProgramSpec): string {
  const { spec } = item;
  const entries = Object.entries(spec.options);
  const lines: string[] = [];
  const structures = entries.filter(([, option]) => option.shape === 'structure');
  if (structures.length > 0)
    lines.push('', 'Only in the file:', ...structures.map(([name, { help }]) => `  ${name}  ${help}`));
  const [example] = entries.filter(([, option]) => option.shape !== 'flag' && option.shape !== 'structure');
  if (example !== undefined) {
    const variable = environmentName(program.environmentPrefix, example[0]);
    lines.push('', `From the environment: ${variable} for --${example[0]}, and so on.`);
    if (spec.takesFile === true)
      lines.push(`From the file: "${example[0]}: ${example[1].placeholder}", and so on. A flag beats both.`);
  }
  if ((spec.examples ?? []).length > 0)
    lines.push('', 'Examples:', ...(spec.examples ?? []).map((line) => `  ${line}`));
  return lines.join('\n');
}
