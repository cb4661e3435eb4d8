import { describe, expect, test } from 'vitest';
import { exportName, parseExportName, parsePoint } from './export-names.js';

describe('the name of an export', () => {
  test('without a point is the latest', () => {
    expect(parseExportName('vm1/disk0')).toEqual({
      kind: 'point',
      group: 'vm1',
      volume: 'disk0',
      point: { kind: 'latest' },
    });
  });

  test('may name a point', () => {
    expect(parseExportName('vm1/disk0@latest')).toMatchObject({ kind: 'point', point: { kind: 'latest' } });
    expect(parseExportName('vm1/disk0@seq:42')).toMatchObject({ kind: 'point', point: { kind: 'number', number: 42 } });
  });

  test('may name a test', () => {
    expect(parseExportName('vm1/disk0!night.1')).toEqual({
      kind: 'test',
      group: 'vm1',
      volume: 'disk0',
      test: 'night.1',
    });
    expect(parseExportName(exportName('a', 'b', 'c'))).toMatchObject({ group: 'a', volume: 'b', test: 'c' });
  });

  test.for([
    ['', "'' is not GROUP/VOLUME"],
    ['vm1', 'is not GROUP/VOLUME'],
    ['/disk0', "'' is not a group's name"],
    ['vm1/', "'' is not a volume's name"],
    ['../etc/passwd', "'..' is not a group's name"],
    ['vm1/../x', "is not a volume's name"],
    ['vm1/disk0!', "'' is not a test's name"],
    ['vm1/disk0!a@latest', "'a@latest' is not a test's name"],
    ['vm1/disk0@', "'' is not a point"],
    ['vm1/disk0@-15m', "'-15m' is not a point that this version opens"],
    ['vm1/disk0@seq:99999999999999999', 'is not a point'],
    ['vm1/disk0@seq:-1', 'is not a point'],
    ['vm\u0000\u001b[31m/disk0', "'vm??[31m' is not a group's name"],
  ])('%j is refused, saying what is wrong', ([name = '', said = '']) => {
    const parsed = parseExportName(name);
    expect(parsed.kind).toBe('wrong');
    expect(parsed.kind === 'wrong' && parsed.message).toContain(said);
  });

  test('a refusal never repeats more than a hundred characters of what was sent', () => {
    const parsed = parseExportName('x'.repeat(4096));
    expect(parsed.kind === 'wrong' && parsed.message.length).toBeLessThan(220);
  });
});

test('a number is read exactly', () => {
  expect(parsePoint('seq:9007199254740991')).toEqual({ kind: 'number', number: Number.MAX_SAFE_INTEGER });
  expect(parsePoint('seq:9007199254740992')).toMatchObject({ kind: 'wrong' });
});
