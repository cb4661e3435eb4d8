/**
 * From the sources to the values: flag beats environment beats file beats default.
 *
 * Always holds: every value a command sees has been through its type; a refusal names the source, the value
 * and what is allowed.
 */
import { ConfigFault } from '@rephub/platform';
import type { Option, OptionTable, RawValue, ValuesOf } from './options.js';

export interface Sources {
  /** By long name without dashes. */
  readonly flags: ReadonlyMap<string, RawValue>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `REPAGENT`; the variable of `--max-rate` is `REPAGENT_MAX_RATE`. */
  readonly environmentPrefix: string;
  readonly file: ReadonlyMap<string, RawValue>;
  readonly filePath: string | null;
}

export interface Resolved<Table extends OptionTable> {
  readonly values: ValuesOf<Table>;
  /** What was written, by long name: for `--print-config`. */
  readonly written: ReadonlyMap<string, RawValue>;
}

/** The name of the environment variable of an option. */
export function environmentName(prefix: string, name: string): string {
  return `${prefix}_${name.replaceAll('-', '_').toUpperCase()}`;
}

/** Throws a ConfigFault for the first option that is wrong or missing. */
export function resolveOptions<Table extends OptionTable>(table: Table, sources: Sources): Resolved<Table> {
  const values: Record<string, unknown> = {};
  const written = new Map<string, RawValue>();
  const idle: (readonly [name: string, other: string])[] = [];
  const given: (readonly [name: string, other: string])[] = [];
  for (const [name, option] of Object.entries(table)) {
    const found = find(name, option, sources);
    if (found.raw === undefined && option.required) throw missing(name, option, sources);
    values[camelCase(name)] = option.read(found.raw, found.where);
    if (found.raw !== undefined) written.set(name, found.raw);
    if (option.unless !== null) (found.isDefault ? idle : given).push([name, option.unless]);
  }
  for (const [name, other] of given) {
    if (!written.has(name) || !written.has(other)) continue;
    throw new ConfigFault('conflicting-options', `--${name} and ${other} exclude each other: give one of them`);
  }
  for (const [name, other] of idle) if (written.has(other)) written.delete(name);
  return { values: values as ValuesOf<Table>, written };
}

/** The outcome as YAML that `-c` would take again; secrets are left out, and passwords in URIs hidden. */
export async function printConfig(table: OptionTable, written: ReadonlyMap<string, RawValue>): Promise<string> {
  const shown: Record<string, unknown> = {};
  for (const [name, raw] of written) {
    const option = table[name];
    if (option === undefined || option.secret || !option.inFile) continue;
    shown[name] = withoutPasswords(raw);
  }
  const { stringify } = await import('yaml');
  return Object.keys(shown).length === 0 ? '' : stringify(shown);
}

interface Found {
  readonly raw: RawValue;
  readonly where: string;
  readonly isDefault?: boolean;
}

function find(name: string, option: Option<unknown>, sources: Sources): Found {
  const flag = sources.flags.get(name);
  if (flag !== undefined) return { raw: flag, where: `--${name}` };
  const variable = environmentName(sources.environmentPrefix, name);
  const inEnvironment = sources.environment[variable];
  if (inEnvironment !== undefined && inEnvironment !== '' && option.shape !== 'structure') {
    const raw = option.shape === 'list' ? inEnvironment.split(/\s+/).filter((part) => part !== '') : inEnvironment;
    return { raw, where: variable };
  }
  if (sources.file.has(name)) {
    return { raw: sources.file.get(name) ?? null, where: `${sources.filePath ?? 'file'}: ${name}` };
  }
  return { raw: option.defaultText, where: `--${name}`, isDefault: true };
}

function missing(name: string, option: Option<unknown>, sources: Sources): ConfigFault {
  const variable = environmentName(sources.environmentPrefix, name);
  const inFile = option.inFile ? `, or "${name}" in the file of -c` : '';
  return new ConfigFault('missing-option', `--${name} ${option.placeholder} is required (also ${variable}${inFile})`);
}

function camelCase(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

function withoutPasswords(raw: RawValue): RawValue {
  if (typeof raw === 'string') return raw.replace(/(:\/\/[^/@:\s]*):[^@/\s]*@/g, '$1:***@');
  if (Array.isArray(raw)) return raw.map(withoutPasswords);
  if (typeof raw === 'object' && raw !== null) {
    return Object.fromEntries(Object.entries(raw).map(([key, value]) => [key, withoutPasswords(value)]));
  }
  return raw;
}
