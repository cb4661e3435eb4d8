/**
 * The YAML file behind `-c FILE`: keys are long option names without the dashes. Owns reading it and saying
 * where in it something is wrong; what the values mean is the options table's affair.
 */
import { readFileSync } from 'node:fs';
import { ConfigFault, plainReason } from '@rephub/platform';
import type { OptionTable, RawValue } from './options.js';
import { unknownKey } from './nearest.js';
import { yamlAdvice } from './yaml-advice.js';

const LARGEST_FILE_BYTES = 1024 * 1024;

/** The file's keys and values. Throws a ConfigFault that names the file, the line and the key. */
export async function readConfigFile(path: string, table: OptionTable): Promise<ReadonlyMap<string, RawValue>> {
  // Loaded when needed: it makes a third of the start of a short command.
  const { LineCounter, parseDocument, visit } = await import('yaml');
  const lines = new LineCounter();
  const document = parseDocument(contentOf(path), { lineCounter: lines, prettyErrors: false });
  const wrong = (offset: number, code: string, message: string): ConfigFault => {
    const { line, col } = lines.linePos(offset);
    return new ConfigFault('bad-file', `${path}, line ${line}, column ${col}: ${yamlAdvice(code, message)}`);
  };
  const [error] = document.errors;
  if (error !== undefined) throw wrong(error.pos[0], error.code, error.message);
  visit(document, {
    Alias: (_, node) => {
      if (node.resolve(document) === undefined) throw wrong(node.range?.[0] ?? 0, 'BAD_ALIAS', '');
    },
    Scalar: (_, node) => {
      const { value, source } = node;
      // What an option takes is its own affair: a name 007 is not 7, nor 1e3 1000.
      if (['number', 'boolean'].includes(typeof value) && String(value) !== source) node.value = source;
    },
  });
  const content = valueOf(path, () => document.toJS({ maxAliasCount: 100 }) as unknown);
  if (content === null) return new Map();
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new ConfigFault('bad-file', `${path}: expected keys and values, such as "group: vm1"`);
  }
  const allowed = Object.entries(table).filter(([, option]) => option.inFile);
  const names = allowed.map(([name]) => name);
  for (const key of Object.keys(content)) {
    if (!names.includes(key)) throw new ConfigFault('unknown-key', `${path}: ${unknownKey(key, names)}`);
  }
  return new Map(Object.entries(content));
}

/** Throws a ConfigFault where aliases of aliases make more of it than there is memory for. */
function valueOf(path: string, read: () => unknown): unknown {
  try {
    return read();
  } catch (cause) {
    throw new ConfigFault('bad-file', `${path}: ${plainReason(cause)}; write the values out instead of "*" and "&"`, {
      cause,
    });
  }
}

function contentOf(path: string): string {
  try {
    const bytes = readFileSync(path);
    if (bytes.length > LARGEST_FILE_BYTES)
      throw new Error(`it has ${bytes.length} bytes, at most ${LARGEST_FILE_BYTES} are allowed`);
    return bytes.toString('utf8');
  } catch (error) {
    throw new ConfigFault('bad-file', `-c ${path}: cannot read the file: ${plainReason(error)}`, { cause: error });
  }
}
