import { describe, expect, it } from 'vitest';
import { wordsToParse } from './words.js';

const NAMES = ['run', 'status', 'checkpoint create'];
const parsed = (line: string, names = NAMES): string => wordsToParse(names, line.split(' ')).join(' ');

describe('wordsToParse', () => {
  it.each([
    ['help', '--help'],
    ['help run', 'run --help'],
    ['help checkpoint create', 'checkpoint create --help'],
    ['help checkpoint', 'checkpoint --help'],
    ['help nothing', 'nothing'],
  ])('takes "%s" as "%s"', (given, expected) => {
    expect(parsed(given)).toBe(expected);
  });

  it.each([
    ['events --help', 'events'],
    ['checkpoint list --help', 'checkpoint list'],
    ['checkpoint list -h extra', 'checkpoint list'],
  ])('leaves of "%s" only "%s", which is then refused', (given, expected) => {
    expect(parsed(given)).toBe(expected);
  });

  it.each(['run --help', 'run help', 'status vm1 --json', 'checkpoint create list --help', '--version', '--help run'])(
    'leaves "%s" as it is',
    (given) => {
      expect(parsed(given)).toBe(given);
    },
  );

  it('leaves a program that is one command, or has one named help, alone', () => {
    expect(parsed('help vm1', [''])).toBe('help vm1');
    expect(parsed('help run', ['help', 'run'])).toBe('help run');
  });
});
