import { describe, expect, it } from 'vitest';
import { type Abilities, ALL_ABILITIES, Command, DEFAULT_LIMITS, NbdError } from '../block-device.js';
import { checkRequest, type RequestRules, tellableError } from './request-check.js';

const { Ok, Eperm, Einval, Enospc } = NbdError;
const [FUA, NO_HOLE, DF, REQ_ONE, FAST, PAYLOAD, UNKNOWN_FLAG] = [1, 2, 4, 8, 16, 32, 64];
const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7];
const SIZE = 100_000;

const RULES: RequestRules = {
  sizeBytes: SIZE,
  abilities: ALL_ABILITIES,
  limits: DEFAULT_LIMITS,
  framing: 'structured',
  contexts: 1,
};
const without = (...names: readonly (keyof Abilities)[]): RequestRules => ({
  ...RULES,
  abilities: { ...ALL_ABILITIES, ...Object.fromEntries(names.map((name) => [name, false])) },
});
const READ_ONLY: RequestRules = { ...RULES, abilities: { ...ALL_ABILITIES, readOnly: true } };
const SIMPLE: RequestRules = { ...RULES, framing: 'simple' };
const EXTENDED: RequestRules = { ...RULES, framing: 'extended', contexts: 2 };
const BLOCKS: RequestRules = { ...RULES, limits: { minimumBytes: 512, preferredBytes: 4096, maximumBytes: 65_536 } };
const NO_CONTEXTS: RequestRules = { ...RULES, contexts: 0 };

function check(rules: RequestRules, type: number, flags: number, offset: number, length: number): number {
  const isPayload = rules.framing === 'extended' ? (flags & PAYLOAD) !== 0 : type === WRITE;
  return checkRequest(rules, { type, flags, offset, length, payloadBytes: isPayload ? length : 0 });
}

describe('a request', () => {
  it.each([
    // FUA is taken on every command, or on none.
    ...[READ, WRITE, TRIM, CACHE, ZERO, STATUS].map(
      (type) => [`${type} with FUA`, RULES, type, FUA, 0, 512, Ok] as const,
    ),
    ['flush with FUA', RULES, FLUSH, FUA, 0, 0, Ok],
    ...[READ, WRITE, TRIM, CACHE, ZERO, STATUS].map(
      (type) => [`${type} with FUA where there is none`, without('fua'), type, FUA, 0, 512, Einval] as const,
    ),
    // The other flags belong to one command each.
    ['read with DF', RULES, READ, DF, 0, 512, Ok],
    ['read with DF and simple replies', SIMPLE, READ, DF, 0, 512, Einval],
    ['write with DF', RULES, WRITE, DF, 0, 512, Einval],
    ['zero with NO_HOLE', RULES, ZERO, NO_HOLE, 0, 512, Ok],
    ['zero with NO_HOLE and no trim', without('trim'), ZERO, NO_HOLE, 0, 512, Ok],
    ['write with NO_HOLE', RULES, WRITE, NO_HOLE, 0, 512, Einval],
    ['trim with NO_HOLE', RULES, TRIM, NO_HOLE, 0, 512, Einval],
    ['zero with FAST_ZERO', RULES, ZERO, FAST | NO_HOLE | FUA, 0, 512, Ok],
    ['zero with FAST_ZERO where there is none', without('fastZero'), ZERO, FAST, 0, 512, Einval],
    ['status with REQ_ONE', RULES, STATUS, REQ_ONE, 0, 512, Ok],
    ['read with REQ_ONE', RULES, READ, REQ_ONE, 0, 512, Einval],
    ...[READ, WRITE, FLUSH, TRIM, CACHE, ZERO, STATUS].map(
      (type) =>
        [`${type} with an unknown flag`, RULES, type, UNKNOWN_FLAG, 0, type === FLUSH ? 0 : 512, Einval] as const,
    ),
    ['read with PAYLOAD_LEN and compact headers', RULES, READ, PAYLOAD, 0, 512, Einval],
    // Commands that were not offered.
    ['an unknown command', RULES, 8, 0, 0, 0, Einval],
    ['the last unknown command', RULES, 65_535, 0, 0, 0, Einval],
    ['a disconnection is no request', RULES, DISC, 0, 0, 0, Einval],
    ['flush where there is none', without('flush'), FLUSH, 0, 0, 0, Einval],
    ['flush of a range', RULES, FLUSH, 0, 0, 512, Einval],
    ['flush with an offset', RULES, FLUSH, 0, 512, 0, Einval],
    ['trim where there is none', without('trim'), TRIM, 0, 0, 512, Einval],
    ['zero where there is none', without('writeZeroes'), ZERO, 0, 0, 512, Einval],
    ['cache where there is none', without('cache'), CACHE, 0, 0, 512, Einval],
    ['status without contexts', NO_CONTEXTS, STATUS, 0, 0, 512, Einval],
    ['status of nothing', RULES, STATUS, 0, 0, 0, Einval],
    // Read-only.
    ['write, read-only', READ_ONLY, WRITE, 0, 0, 512, Eperm],
    ['zero, read-only', READ_ONLY, ZERO, 0, 0, 512, Eperm],
    ['trim, read-only', READ_ONLY, TRIM, 0, 0, 512, Eperm],
    ['read, read-only', READ_ONLY, READ, 0, 0, 512, Ok],
    ['flush, read-only', READ_ONLY, FLUSH, 0, 0, 0, Ok],
    // Ranges.
    ['read of the last byte', RULES, READ, 0, SIZE - 1, 1, Ok],
    ['read of nothing at the end', RULES, READ, 0, SIZE, 0, Ok],
    ['read beyond', RULES, READ, 0, SIZE - 1, 2, Einval],
    ['read far beyond', RULES, READ, 0, 2 ** 63, 1, Einval],
    ['write beyond', RULES, WRITE, 0, SIZE - 1, 2, Enospc],
    ['write far beyond', RULES, WRITE, 0, 2 ** 63, 1, Enospc],
    ['zero beyond', RULES, ZERO, 0, SIZE, 1, Enospc],
    ['trim beyond', RULES, TRIM, 0, SIZE, 1, Einval],
    ['cache beyond', RULES, CACHE, 0, SIZE, 1, Einval],
    ['status beyond', RULES, STATUS, 0, SIZE, 1, Einval],
    // Block sizes.
    ['unaligned offset', BLOCKS, READ, 0, 1, 512, Einval],
    ['unaligned length', BLOCKS, WRITE, 0, 512, 511, Einval],
    ['unaligned zero', BLOCKS, ZERO, 0, 100, 512, Einval],
    ['unaligned trim', BLOCKS, TRIM, 0, 100, 512, Einval],
    ['unaligned status', BLOCKS, STATUS, 0, 100, 512, Einval],
    ['the last piece of a size that is no multiple', BLOCKS, READ, 0, 99_840, 160, Ok],
    ['read of the maximum', BLOCKS, READ, 0, 0, 65_536, Ok],
    ['read beyond the maximum', BLOCKS, READ, 0, 0, 66_048, Einval],
    ['write beyond the maximum', BLOCKS, WRITE, 0, 0, 66_048, Einval],
    ['zero beyond the maximum', BLOCKS, ZERO, 0, 0, 66_048, Ok],
    ['trim beyond the maximum', BLOCKS, TRIM, 0, 0, 66_048, Ok],
    ['cache beyond the maximum', BLOCKS, CACHE, 0, 0, 66_048, Ok],
    ['status beyond the maximum', BLOCKS, STATUS, 0, 0, 66_048, Ok],
    // Extended headers.
    ['write with its payload', EXTENDED, WRITE, PAYLOAD, 0, 512, Ok],
    ['write without the flag', EXTENDED, WRITE, 0, 0, 512, Einval],
    ['read with a payload', EXTENDED, READ, PAYLOAD, 0, 512, Einval],
    ['zero with a payload', EXTENDED, ZERO, PAYLOAD, 0, 512, Einval],
    ['flush with a payload', EXTENDED, FLUSH, PAYLOAD, 0, 0, Einval],
    ['status that names one context', EXTENDED, STATUS, PAYLOAD, 0, 12, Ok],
    ['status that names both contexts', EXTENDED, STATUS, PAYLOAD, 0, 16, Ok],
    ['status that names three of two contexts', EXTENDED, STATUS, PAYLOAD, 0, 20, Einval],
    ['status that names no context', EXTENDED, STATUS, PAYLOAD, 0, 8, Einval],
    ['status with half an id', EXTENDED, STATUS, PAYLOAD, 0, 14, Einval],
  ] as const)('%s', (_, rules, type, flags, offset, length, error) => {
    expect(check(rules, type, flags, offset, length)).toBe(error);
  });
});

describe("a device's error", () => {
  it.each([
    ['ENOTSUP of a fast zero is told', Command.WriteZeroes, FAST, NbdError.Enotsup, NbdError.Enotsup],
    ['ENOTSUP of any other zeroing is not', Command.WriteZeroes, 0, NbdError.Enotsup, Einval],
    ['ENOTSUP of a read is not', Command.Read, 0, NbdError.Enotsup, Einval],
    ['EOVERFLOW of a read is told', Command.Read, DF, NbdError.Eoverflow, NbdError.Eoverflow],
    ['EOVERFLOW of a write is not', Command.Write, 0, NbdError.Eoverflow, Einval],
    ['an unknown number is EIO', Command.Write, 0, 4711, NbdError.Eio],
    ['ENOSPC is ENOSPC', Command.Write, 0, Enospc, Enospc],
  ])('%s', (_, command, flags, error, told) => {
    expect(tellableError(command, flags, error)).toBe(told);
  });
});
