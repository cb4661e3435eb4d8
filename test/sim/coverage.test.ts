// The least that long runs must reach: a simulator that does nothing, or checks nothing, must not pass.
import { LINEAGE_TABLE } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { Coverage, UNREACHABLE_ROWS } from './coverage.js';
import { CHECKED } from './promises/index.js';
import { STEP_KINDS } from './step-kinds.js';

/** Rows that most runs meet. */
const COMMON_ROWS = [
  'L1-unknown-new',
  'L2-unknown-known',
  'L14-untrusted',
  'L15-equal',
  'L16-resume',
  'L20-hub-behind',
];

function reached(seeds: number, times: number): Coverage {
  const coverage = new Coverage();
  coverage.seeds = seeds;
  for (let time = 0; time < times; time += 1) {
    for (const kind of STEP_KINDS) coverage.fault(kind);
    for (const { id } of LINEAGE_TABLE) if (!(id in UNREACHABLE_ROWS)) coverage.row(id);
    for (const promise of CHECKED) coverage.checked(promise);
  }
  return coverage;
}

describe('the least that is to be reached', () => {
  it('is lacked by 60 seeds that have reached nothing: faults, rows, happenings and promises', () => {
    const missing = reached(60, 0).missing(CHECKED);
    for (const row of COMMON_ROWS) expect(missing.join('\n')).toContain(`row ${row}: 0,`);
    for (const what of ['fault burst', 'fault kill-agent', 'fault power-hub', 'fault cut-link']) {
      expect(missing.join('\n')).toContain(`${what}: 0,`);
    }
    for (const what of ['replayed', 'resume', 'pulled-ahead']) {
      expect(missing.join('\n')).toContain(`happening ${what}: 0,`);
    }
    for (const promise of ['GUEST', 'ORD', 'DURABLE', 'FLUSH']) {
      expect(missing.join('\n')).toContain(`promise ${promise}: 0,`);
    }
  });

  it('is everything that is in reach, once there are enough seeds', () => {
    const missing = reached(1000, 0).missing(CHECKED);
    const all = [
      ...STEP_KINDS,
      ...LINEAGE_TABLE.map(({ id }) => id).filter((id) => !(id in UNREACHABLE_ROWS)),
      ...CHECKED,
    ];
    for (const what of all) expect(missing.join('\n')).toContain(` ${what}: 0, at least `);
  });

  it('grows with the seeds', () => {
    const isLacked = (coverage: Coverage): boolean =>
      coverage.missing(CHECKED).some((what) => what.includes('fault kill-agent'));
    expect(isLacked(reached(60, 1))).toBe(false);
    expect(isLacked(reached(600, 1))).toBe(true);
    expect(isLacked(reached(600, 10))).toBe(false);
  });

  it('counts as played again what upstream was given once it was back, not its coming back', () => {
    const coverage = new Coverage();
    coverage.event('upstream-back', { volume: 'root', requests: 3, played: 0 });
    expect(coverage.happenings['replayed']).toBeUndefined();
    coverage.event('upstream-back', { volume: 'root', requests: 3, played: 2 });
    expect(coverage.happenings['replayed']).toBe(1);
  });
});
