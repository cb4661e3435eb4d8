import { describe, expect, test } from 'vitest';
import { type VerifyReport, type VolumeVerify } from './messages.js';
import { describeVerify, outcomeOf } from './verify-outcome.js';

const volume = (name: string, figures: Partial<VolumeVerify> = {}): VolumeVerify => ({
  ...{ name, bytesTotal: 100, bytesSame: 100, bytesDiffer: 0, bytesUnknown: 0, reason: null },
  ...figures,
});

function report(volumes: readonly VolumeVerify[], more: Partial<VerifyReport> = {}): VerifyReport {
  const sum = (key: 'bytesTotal' | 'bytesSame' | 'bytesDiffer' | 'bytesUnknown'): number =>
    volumes.reduce((total, figures) => total + figures[key], 0);
  return {
    ...{ id: 'id', cause: 'test', startedAt: 'then', finishedAt: 'now', differs: [], reason: null },
    ...{ bytesTotal: sum('bytesTotal'), bytesSame: sum('bytesSame') },
    ...{ bytesDiffer: sum('bytesDiffer'), bytesUnknown: sum('bytesUnknown') },
    volumes: [...volumes],
    ...more,
  };
}

function ofOlder(given: VerifyReport): VerifyReport {
  const told = { ...given };
  delete told.volumes;
  return told;
}

const lines = (given: VerifyReport): string[] => describeVerify(given, (bytes) => `${bytes} B`);

describe('what a verification came to', () => {
  test('is one verdict for each volume, what differs first', () => {
    const given = report(
      [
        volume('a'),
        volume('b', { bytesSame: 60, bytesUnknown: 40, reason: 'it is marked' }),
        volume('c', { bytesSame: 70, bytesDiffer: 20, bytesUnknown: 10, reason: 'the hub cannot read it' }),
      ],
      {
        differs: [
          { volume: 'c', offset: 0, length: 5 },
          { volume: 'c', offset: 50, length: 10 },
        ],
        bytesHoles: 12,
      },
    );
    expect(lines(given)).toEqual([
      'c: differs, 20 B of 100 B, marked and sent again (bytes: 5 at 0, 10 at 50, 5 elsewhere); 10 B could not be told: the hub cannot read it',
      'b: could not tell, 40 B of 100 B: it is marked',
      'a: same, 100 B',
      'holes on both sides, which nobody had to read: 12 B',
    ]);
    expect(outcomeOf(given)).toBe('differs');
  });

  test('names the first places only', () => {
    const differs = Array.from({ length: 20 }, (_, index) => ({ volume: 'a', offset: 4 * index, length: 2 }));
    const [line = ''] = lines(report([volume('a', { bytesSame: 60, bytesDiffer: 40 })], { differs }));
    expect(line.match(/ at /g)).toHaveLength(8);
    expect(line).toContain('24 elsewhere');
  });

  test('is one verdict for all where an older agent does not tell them apart, never "same" beside "differs"', () => {
    const differs = [{ volume: 'b', offset: 7, length: 1 }];
    const older = ofOlder(report([volume('a'), volume('b', { bytesSame: 99, bytesDiffer: 1 })], { differs }));
    expect(lines(older)).toEqual(['all volumes: differs, 1 B of 200 B, marked and sent again (bytes: b 1 at 7)']);
    expect(lines(ofOlder(report([volume('a')])))).toEqual(['all volumes: same, 100 B']);
    const running = report([volume('a', { bytesSame: 40 })], { finishedAt: null });
    expect(lines(ofOlder(running))).toEqual(['all volumes: could not tell, 60 B of 100 B']);
  });
});
