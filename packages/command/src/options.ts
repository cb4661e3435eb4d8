/**
 * The options table: what an option is called, what it takes and means. Arguments, file, environment, help
 * and `--print-config` are all read off it (resolve.ts, program.ts), so that they cannot disagree.
 */
import { ConfigFault } from '@rephub/platform';
import { z } from 'zod';
import { unknownKey } from './nearest.js';
import { type TextType, wordsOf } from './types.js';

/** What a source (flag, environment, file, default) says, before it is checked. */
export type RawValue = unknown;

/** One option. `T` is what the command gets. Made by the functions below, not by hand. */
export interface Option<T> {
  /** How it is written: `--name VALUE`, `--name VALUE` repeated, `--name` alone, or only in the file. */
  readonly shape: 'value' | 'list' | 'flag' | 'structure';
  /** What stands for the value in the help. */
  readonly placeholder: string;
  readonly help: string;
  /** All that it takes, where that is a fixed set of words. */
  readonly words: readonly string[] | null;
  readonly required: boolean;
  /** As one would write it. */
  readonly defaultText: string | readonly string[] | undefined;
  /** Never printed. */
  readonly secret: boolean;
  /** False for what makes sense only once, by hand: `--yes`, `--json`. */
  readonly inFile: boolean;
  /** Another option, beside which this one's default says nothing; null when there is none. */
  readonly unless: string | null;
  /** One letter, for what is typed often: `f` for `-f`; null when there is none. */
  readonly short: string | null;
  /** Undefined is what no source gave, and no default. Throws a ConfigFault that begins with `where`. */
  read(raw: RawValue, where: string): T;
}

export type OptionTable = Readonly<Record<string, Option<unknown>>>;

type CamelCase<Name extends string> = Name extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

/** What a command gets for its table: the names in camelCase, the values typed. */
export type ValuesOf<Table extends OptionTable> = {
  readonly [Name in keyof Table & string as CamelCase<Name>]: Table[Name] extends Option<infer T> ? T : never;
};

interface Common {
  readonly placeholder: string;
  readonly help: string;
  readonly secret?: boolean;
  readonly inFile?: boolean;
  readonly unless?: string;
  readonly short?: string;
}

/** An option that must be given. */
export function required<T>(type: TextType<T>, spec: Common): Option<T> {
  return { ...base(spec, 'value', type), required: true, read: (raw, where) => readText(type, raw, where) };
}

/** An option that may be left out; undefined then. */
export function optional<T>(type: TextType<T>, spec: Common): Option<T | undefined> {
  return {
    ...base(spec, 'value', type),
    read: (raw, where) => (raw === undefined ? undefined : readText(type, raw, where)),
  };
}

/** An option with a default, given as one would write it. */
export function withDefault<T>(type: TextType<T>, defaultText: string, spec: Common): Option<T> {
  return { ...base(spec, 'value', type), defaultText, read: (raw, where) => readText(type, raw, where) };
}

/** An option that may be given several times; empty when it is not. `atLeastOne` makes it required. */
export function repeated<T>(
  type: TextType<T>,
  spec: Common & { readonly defaults?: readonly string[]; readonly atLeastOne?: boolean },
): Option<readonly T[]> {
  return {
    ...base(spec, 'list', type),
    required: spec.atLeastOne ?? false,
    defaultText: spec.defaults,
    read: (raw, where) => {
      if (raw === undefined) return [];
      return (Array.isArray(raw) ? raw : [raw]).map((item: unknown) => readText(type, item, where));
    },
  };
}

/** A flag without a value: `--json`. In the file it is yes or no. */
export function flag(spec: Omit<Common, 'placeholder'>): Option<boolean> {
  const type = z.enum(['yes', 'no', 'true', 'false', '1', '0']);
  return {
    ...base({ ...spec, placeholder: '' }, 'flag'),
    read: (raw, where) => {
      if (raw === undefined) return false;
      const parsed = type.safeParse(isScalar(raw) ? String(raw).toLowerCase() : raw);
      if (!parsed.success) throw badValue(where, raw, 'yes or no');
      return ['yes', 'true', '1'].includes(parsed.data);
    },
  };
}

/** A key that only the file may have, with a shape of its own: `volumes: [{name, upstream, listen}]`. */
export function structure<T>(schema: z.ZodType<T>, spec: Omit<Common, 'placeholder'>): Option<T | undefined> {
  return {
    ...base({ ...spec, placeholder: '' }, 'structure'),
    read: (raw, where) => {
      if (raw === undefined) return undefined;
      const parsed = schema.safeParse(raw);
      if (parsed.success) return parsed.data;
      // A key that nobody knows explains one that is missing: it is told first.
      const { issues } = parsed.error;
      const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
      const place = issue === undefined ? where : where + pathText(issue.path);
      if (issue?.code === 'unrecognized_keys') {
        const known = keysAt(schema, issue.path);
        throw new ConfigFault('unknown-key', `${place}: ${unknownKey(issue.keys[0] ?? '', known)}`);
      }
      const given = issue === undefined ? raw : valueAt(raw, issue.path);
      if (given === undefined) throw new ConfigFault('missing-option', `${place} is missing`);
      const shape = issue?.code === 'invalid_type' ? SHAPES[issue.expected] : undefined;
      throw badValue(place, given, shape ?? issue?.message ?? 'another shape');
    },
  };
}

/** Fits a text type into a `structure`: YAML's numbers and booleans count as text. */
export function scalar<T>(type: TextType<T>): z.ZodType<T> {
  return z.preprocess((given) => (isScalar(given) ? String(given) : given), type);
}

/** What was given, where, and what is allowed. */
export function badValue(where: string, given: unknown, expected: string): ConfigFault {
  const shown = typeof given === 'string' ? given : JSON.stringify(given);
  return new ConfigFault('bad-value', `${where}: "${shown}" is not allowed, expected ${expected}`);
}

function base(spec: Common, shape: Option<unknown>['shape'], type?: TextType<unknown>): Omit<Option<never>, 'read'> {
  return {
    shape,
    placeholder: spec.placeholder,
    help: spec.help,
    words: type === undefined ? null : wordsOf(type),
    required: false,
    defaultText: undefined,
    secret: spec.secret ?? false,
    inFile: spec.inFile ?? true,
    unless: spec.unless ?? null,
    short: spec.short ?? null,
  };
}

function readText<T>(type: TextType<T>, raw: RawValue, where: string): T {
  if (raw === null) throw new ConfigFault('bad-value', `${where}: has no value`);
  if (!isScalar(raw)) throw badValue(where, raw, 'a single value');
  const parsed = type.safeParse(String(raw));
  if (parsed.success) return parsed.data;
  throw badValue(where, raw, parsed.error.issues[0]?.message ?? 'another value');
}

/** What the types of YAML are called by people. */
const SHAPES: Readonly<Record<string, string>> = {
  array: 'a list: each item on a line of its own after "- "',
  object: 'keys and values, such as "name: disk0"',
};

/** The keys that the schema knows at a place. */
function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let at: unknown = schema;
  for (const part of path) {
    if (at instanceof z.ZodArray) at = at.element;
    else at = at instanceof z.ZodObject ? (at.shape as Record<PropertyKey, unknown>)[part] : undefined;
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

function isScalar(raw: unknown): raw is string | number | boolean | bigint {
  return ['string', 'number', 'boolean', 'bigint'].includes(typeof raw);
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}
