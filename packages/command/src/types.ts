/**
 * The types of option values: zod schemas from text to value, each with one sentence on what is allowed.
 * Limits are part of the type, so that the message names them.
 */
import { type Address, MAX_SOCKET_PATH_BYTES } from '@rephub/platform';
import { z } from 'zod';
import {
  formatCount,
  formatDuration,
  formatSize,
  parseCount,
  parseDuration,
  type Parsed,
  parseName,
  parseRate,
  parseSize,
  parseYesNo,
} from './quantities.js';

/** A schema that reads a text. */
export type TextType<T> = z.ZodType<T, string>;

export interface Limits {
  readonly min?: number;
  readonly max?: number;
}

/** A schema from a parser; the issue's message is what was expected. */
export function textType<T>(parse: (text: string) => Parsed<T>): TextType<T> {
  return z.string().transform((text, context) => {
    const parsed = parse(text);
    if ('value' in parsed) return parsed.value;
    context.addIssue({ code: 'custom', message: parsed.expected });
    return z.NEVER;
  });
}

const fixedWords = new WeakMap<object, readonly string[]>();

/** All that a type takes, where that is a fixed set of words; null where it is not. */
export function wordsOf(type: TextType<unknown>): readonly string[] | null {
  return fixedWords.get(type) ?? null;
}

function fixed<T>(words: readonly string[], type: TextType<T>): TextType<T> {
  fixedWords.set(type, words);
  return type;
}

/** Bytes. */
export const size = (limits: Limits = {}): TextType<number> => limited(parseSize, limits, formatSize);
/** Bytes a second. */
export const rate = (limits: Limits = {}): TextType<number> => limited(parseRate, limits, formatSize);
/** Milliseconds. */
export const duration = (limits: Limits = {}): TextType<number> => limited(parseDuration, limits, formatDuration);
/** A whole number. */
export const count = (limits: Limits = {}): TextType<number> => limited(parseCount, limits, formatCount);
export const yesNo = (): TextType<boolean> => fixed(['yes', 'no'], textType(parseYesNo));
/** The name of a group, volume, checkpoint or test. */
export const name = (): TextType<string> => textType(parseName);

/** Any text but an empty one. */
export const text = (expected = 'a value'): TextType<string> =>
  textType((given) => (given.trim() === '' ? { expected } : { value: given }));

/** A path to a file or directory. */
export const path = (): TextType<string> =>
  textType((given) => (given === '' || given.includes('\0') ? { expected: 'a path' } : { value: given }));

/** One of these words. */
export function choice<const T extends string>(...words: readonly T[]): TextType<T> {
  const expected = words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1) ?? ''}`;
  const type = textType((given) => {
    const found = words.find((word) => word === given);
    return found === undefined ? { expected } : { value: found };
  });
  return fixed(words, type);
}

/** A word with a meaning of its own (`none`, `forever`) in place of a value of the other type. */
export function orWord<T, W>(word: string, meaning: W, type: TextType<T>): TextType<T | W> {
  return textType<T | W>((given) => {
    if (given === word) return { value: meaning };
    const parsed = type.safeParse(given);
    if (parsed.success) return { value: parsed.data };
    return { expected: `${parsed.error.issues[0]?.message ?? 'a value'}, or ${word}` };
  });
}

/** Where to listen or connect: `HOST:PORT`, `[V6]:PORT`, `:PORT` for loopback, `unix:PATH` or an absolute path. */
export const address = (): TextType<Address> =>
  textType((given): Parsed<Address> => {
    const socketPath = /^(?:unix:)(.+)$/.exec(given)?.[1] ?? (given.startsWith('/') ? given : undefined);
    if (socketPath !== undefined) {
      if (Buffer.byteLength(socketPath) <= MAX_SOCKET_PATH_BYTES) return { value: { kind: 'unix', path: socketPath } };
      return { expected: `a path of at most ${MAX_SOCKET_PATH_BYTES} bytes, as a socket can have` };
    }
    const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]/\s]*)):([0-9]{1,5})$/.exec(given);
    const port = Number(match?.[3] ?? NaN);
    if (match === null || port > 65_535) return { expected: 'HOST:PORT, [V6]:PORT or unix:PATH' };
    const host = match[1] ?? match[2] ?? '';
    return { value: { kind: 'tcp', host: host === '' ? '127.0.0.1' : host, port } };
  });

function limited(
  parse: (text: string) => Parsed<number>,
  limits: Limits,
  format: (value: number) => string,
): TextType<number> {
  const { min, max } = limits;
  return textType((given) => {
    const parsed = parse(given);
    if ('expected' in parsed) return parsed;
    const low = min !== undefined && parsed.value < min;
    const high = max !== undefined && parsed.value > max;
    if (!low && !high) return parsed;
    if (min !== undefined && max !== undefined) return { expected: `${format(min)} to ${format(max)}` };
    return { expected: min !== undefined ? `at least ${format(min)}` : `at most ${format(max ?? 0)}` };
  });
}
