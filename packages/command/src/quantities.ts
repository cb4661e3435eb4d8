/**
 * Sizes, durations, rates and counts as people write them, and the way back.
 *
 * Always holds: parsing is exact (no floating point on the way) and says what is allowed when it refuses;
 * nothing that does not fit a safe integer gets through.
 */
import { NAME_PATTERN } from '@rephub/platform';

/** What a parser makes of a text: the value, or why it is refused (the end of "expected …"). */
export type Parsed<T> = { readonly value: T } | { readonly expected: string };

const SIZE_UNITS: ReadonlyMap<string, bigint> = new Map([
  ['', 1n],
  ['b', 1n],
  ...['k', 'm', 'g', 't', 'p', 'e'].flatMap((letter, index): [string, bigint][] => {
    const binary = 1024n ** BigInt(index + 1);
    return [
      [letter, binary],
      [`${letter}ib`, binary],
      [`${letter}b`, 1000n ** BigInt(index + 1)],
    ];
  }),
]);

const BIT_UNITS: ReadonlyMap<string, bigint> = new Map([
  ['kbit', 1000n],
  ['mbit', 1000n ** 2n],
  ['gbit', 1000n ** 3n],
  ['tbit', 1000n ** 4n],
]);

/** Microseconds, so that fractions of milliseconds stay exact. */
const TIME_UNITS: ReadonlyMap<string, bigint> = new Map([
  ['us', 1n],
  ['ms', 1000n],
  ['s', 1_000_000n],
  ['sec', 1_000_000n],
  ['m', 60_000_000n],
  ['min', 60_000_000n],
  ['h', 3_600_000_000n],
  ['d', 86_400_000_000n],
  ['w', 604_800_000_000n],
]);

const NUMBER_AND_UNIT = /^([0-9]{1,30})(?:\.([0-9]{1,30}))?\s*([a-zA-Z]*)$/;
const TOO_LARGE = 'a smaller value (it does not fit)';

/** Bytes: `4096`, `64K`, `64KiB`, `1.5GiB`; `K`, `M`, `G`, `T` count in 1024s as `KiB` does, `KB` in 1000s. */
export function parseSize(text: string): Parsed<number> {
  const expected = 'a size such as 4096, 64KiB or 1.5GiB';
  return scaled(text, SIZE_UNITS, expected, 'a whole number of bytes');
}

/** Bytes a second: a size, with `/s` after it or not, or bits: `100Mbit/s`. */
export function parseRate(text: string): Parsed<number> {
  const expected = 'a rate such as 50MiB, 50MiB/s or 400Mbit/s';
  const plain = text.trim().replace(/\/s$/, '');
  if (!/bit$/i.test(plain)) return scaled(plain, SIZE_UNITS, expected, 'a whole number of bytes');
  const bits = scaled(plain, BIT_UNITS, expected, 'a whole number of bits');
  return 'value' in bits ? { value: Math.floor(bits.value / 8) } : bits;
}

/** Milliseconds: `250ms`, `2s`, `1.5m`, `24h`, `1h30m`; a plain number is seconds. */
export function parseDuration(text: string): Parsed<number> {
  const expected = 'a duration such as 250ms, 2s, 5m or 24h';
  const given = text.trim();
  const isPlain = /^[0-9.]+$/.test(given);
  const parts = isPlain ? [`${given}s`] : given.match(/[0-9.]+\s*[a-zA-Z]+\s*/g);
  if (parts === null || (!isPlain && parts.join('') !== given)) return { expected };
  let sum = 0n;
  for (const part of parts) {
    const match = NUMBER_AND_UNIT.exec(part.trim());
    const unit = TIME_UNITS.get(match?.[3]?.toLowerCase() ?? '');
    if (match === null || unit === undefined) return { expected };
    const fraction = match[2] ?? '';
    const scale = 10n ** BigInt(fraction.length);
    sum += (BigInt(`${match[1] ?? ''}${fraction}`) * unit) / scale;
  }
  if (sum / 1000n > BigInt(Number.MAX_SAFE_INTEGER)) return { expected: TOO_LARGE };
  return { value: Number(sum) / 1000 };
}

/** A whole number, not negative. */
export function parseCount(text: string): Parsed<number> {
  if (!/^[0-9]{1,30}$/.test(text.trim())) return { expected: 'a whole number' };
  const value = Number(text.trim());
  return Number.isSafeInteger(value) ? { value } : { expected: TOO_LARGE };
}

/** `yes` or `no`; also true, false, on, off. */
export function parseYesNo(text: string): Parsed<boolean> {
  const lower = text.trim().toLowerCase();
  if (['yes', 'true', 'on'].includes(lower)) return { value: true };
  if (['no', 'false', 'off'].includes(lower)) return { value: false };
  return { expected: 'yes or no' };
}

/** The name of a group, volume, checkpoint or test. */
export function parseName(text: string): Parsed<string> {
  if (text === 'latest') return { expected: 'another name (latest is reserved)' };
  if (NAME_PATTERN.test(text)) return { value: text };
  return {
    expected: 'a name of 1 to 64 letters, digits, dots, underscores and dashes that starts with a letter or digit',
  };
}

function scaled(text: string, units: ReadonlyMap<string, bigint>, expected: string, whole: string): Parsed<number> {
  const match = NUMBER_AND_UNIT.exec(text.trim());
  const unit = units.get(match?.[3]?.toLowerCase() ?? '');
  if (match === null || unit === undefined) return { expected };
  const fraction = match[2] ?? '';
  const product = BigInt(`${match[1] ?? ''}${fraction}`) * unit;
  const scale = 10n ** BigInt(fraction.length);
  if (product % scale !== 0n) return { expected: whole };
  const value = product / scale;
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? { expected: TOO_LARGE } : { value: Number(value) };
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** `512 B`, `1.5 GiB`: three digits and a unit of 1024s. */
export function formatSize(bytes: number): string {
  let value = Math.abs(bytes);
  let index = 0;
  // 1023.5 would be printed as 1024.
  while (value >= (index === 0 ? 1024 : 1023.5) && index < BINARY_UNITS.length - 1) {
    value /= 1024;
    index += 1;
  }
  const digits = index === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = digits === 0 ? value.toFixed(0) : value.toFixed(digits).replace(/\.?0+$/, '');
  return `${bytes < 0 ? '-' : ''}${text} ${BINARY_UNITS[index] ?? 'B'}`;
}

/** `1.5 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatSize(bytesPerSecond)}/s`;
}

/** `250 ms`, `2.5 s`, `3 m 20 s`, `1 h 5 m`, `2 d 3 h`: the two largest units. */
export function formatDuration(ms: number): string {
  const sign = ms < 0 ? '-' : '';
  const length = Math.abs(ms);
  if (length < 999.5) return `${sign}${length < 10 ? trimmed(length, 2) : length.toFixed(0)} ms`;
  if (length < 59_950) return `${sign}${trimmed(length / 1000, 1)} s`;
  const seconds = Math.round(length / 1000);
  if (seconds < 3600) return sign + pair(Math.floor(seconds / 60), 'm', seconds % 60, 's');
  const minutes = Math.round(seconds / 60);
  if (minutes < 1440) return sign + pair(Math.floor(minutes / 60), 'h', minutes % 60, 'm');
  const hours = Math.round(seconds / 3600);
  return sign + pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** `12,345`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

function trimmed(value: number, digits: number): string {
  return value.toFixed(digits).replace(/\.?0+$/, '');
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}
