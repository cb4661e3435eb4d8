import { describe, expect, test } from 'vitest';
import { simPlatform } from './sim/index.js';
import { randomUuid, UUID_PATTERN, uuidBytes, uuidText } from './uuid.js';

const TEXT = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';

describe('a UUID', () => {
  test('goes to 16 bytes and back', () => {
    expect(uuidBytes(TEXT).toString('hex')).toBe('aaaaaaaabbbb4ccc8dddeeeeeeeeeeee');
    expect(uuidText(uuidBytes(TEXT))).toBe(TEXT);
  });

  test('is read from the middle of a block', () => {
    expect(uuidText(Buffer.concat([Buffer.alloc(3), uuidBytes(TEXT), Buffer.alloc(5)]), 3)).toBe(TEXT);
  });

  test('is of version 4 when it is random, and never the same', () => {
    const { randomness } = simPlatform(1);
    const made = Array.from({ length: 100 }, () => randomUuid(randomness));
    for (const uuid of made) {
      expect(uuid).toMatch(UUID_PATTERN);
      expect(uuid).toMatch(/^.{14}4.{4}[89ab]/);
    }
    expect(new Set(made).size).toBe(100);
  });

  test.for([`${TEXT}0`, TEXT.toUpperCase(), TEXT.replaceAll('-', ''), '', `x${TEXT}`])('is not %j', (text) => {
    expect(text).not.toMatch(UUID_PATTERN);
  });
});
