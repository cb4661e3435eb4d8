import { describe, expect, it } from 'vitest';
import {
  formatCount,
  formatDuration,
  formatRate,
  formatSize,
  parseCount,
  parseDuration,
  parseName,
  parseRate,
  parseSize,
  parseYesNo,
} from './quantities.js';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['4096', 4096],
    ['64K', 65_536],
    ['64KiB', 65_536],
    ['64k', 65_536],
    ['64 MiB', 67_108_864],
    ['1.5GiB', 1_610_612_736],
    ['1KB', 1000],
    ['0.5K', 512],
    ['7PiB', 7 * 2 ** 50],
    ['512B', 512],
  ])('takes %s', (text, value) => {
    expect(parseSize(text)).toEqual({ value });
  });

  it.each(['', 'K', '-1', '1e3', '1,5K', '1.K', '.5K', '64X', '0x10', '1 2', 'NaN', '٣'])('refuses "%s"', (text) => {
    expect(parseSize(text)).toEqual({ expected: 'a size such as 4096, 64KiB or 1.5GiB' });
  });

  it('refuses what is no whole number of bytes and what does not fit', () => {
    expect(parseSize('1.5')).toEqual({ expected: 'a whole number of bytes' });
    expect(parseSize('8EiB')).toMatchObject({ expected: expect.stringContaining('smaller') as string });
    expect(parseSize('9007199254740991')).toEqual({ value: Number.MAX_SAFE_INTEGER });
    expect(parseSize('9007199254740992')).toHaveProperty('expected');
    expect(parseSize('9'.repeat(31))).toHaveProperty('expected');
  });
});

describe('parseRate', () => {
  it.each([
    ['50MiB', 52_428_800],
    ['50MiB/s', 52_428_800],
    ['400Mbit/s', 50_000_000],
    ['1Gbit', 125_000_000],
  ])('takes %s', (text, value) => {
    expect(parseRate(text)).toEqual({ value });
  });

  it('refuses anything else', () => {
    for (const text of ['fast', '50MiB/h', 'bit', '-1Mbit']) expect(parseRate(text)).toHaveProperty('expected');
  });
});

describe('parseDuration', () => {
  it.each([
    ['250ms', 250],
    ['2s', 2000],
    ['2', 2000],
    ['0.25', 250],
    ['1.5m', 90_000],
    ['24h', 86_400_000],
    ['1h30m', 5_400_000],
    ['1d 2h', 93_600_000],
    ['500us', 0.5],
    ['2w', 1_209_600_000],
  ])('takes %s', (text, value) => {
    expect(parseDuration(text)).toEqual({ value });
  });

  it.each(['', 's', '-2s', '2 parsecs', '1h30', '1.2.3s', '1..s', 'h1', '5 m!'])('refuses "%s"', (text) => {
    expect(parseDuration(text)).toHaveProperty('expected');
  });

  it('refuses what does not fit', () => {
    expect(parseDuration('999999999999999w')).toMatchObject({ expected: expect.stringContaining('smaller') as string });
  });
});

describe('the small parsers', () => {
  it('take whole numbers, yes and no, and names', () => {
    expect(parseCount('1237')).toEqual({ value: 1237 });
    for (const text of ['', '-1', '1.0', '1e3', '9007199254740992'])
      expect(parseCount(text)).toHaveProperty('expected');
    expect([parseYesNo('yes'), parseYesNo('false'), parseYesNo('maybe')]).toEqual([
      { value: true },
      { value: false },
      { expected: 'yes or no' },
    ]);
    for (const text of ['vm1', '0', 'A.b_c-d', 'x'.repeat(64)]) expect(parseName(text)).toEqual({ value: text });
    for (const text of ['', 'latest', '-a', '.a', 'a/b', 'a b', 'ä', 'x'.repeat(65)])
      expect(parseName(text)).toHaveProperty('expected');
  });
});

describe('what people read', () => {
  it('sizes have three digits and a binary unit', () => {
    expect([0, 512, 1023, 1024, 1536, 65_536, 1_048_575, 123_456_789, 1.5 * 2 ** 30, -2048].map(formatSize)).toEqual([
      '0 B',
      '512 B',
      '1023 B',
      '1 KiB',
      '1.5 KiB',
      '64 KiB',
      '1 MiB',
      '118 MiB',
      '1.5 GiB',
      '-2 KiB',
    ]);
    expect([formatRate(1_572_864), formatCount(12_345)]).toEqual(['1.5 MiB/s', '12,345']);
  });

  it('durations have the two largest units', () => {
    const given = [0, 0.5, 250, 999.9, 2500, 59_999, 200_000, 3_600_000, 3_900_000, 183_600_000, -2000];
    expect(given.map(formatDuration)).toEqual([
      '0 ms',
      '0.5 ms',
      '250 ms',
      '1 s',
      '2.5 s',
      '1 m',
      '3 m 20 s',
      '1 h',
      '1 h 5 m',
      '2 d 3 h',
      '-2 s',
    ]);
  });
});
