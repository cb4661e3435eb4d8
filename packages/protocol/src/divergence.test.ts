import { describe, expect, test } from 'vitest';
import { type Divergence, divergenceSchema, divergenceSentence, explainDivergence } from './divergence.js';
import { decideLineage, fullReason } from './lineage.js';
import { type Hello, type HubGroup, type Line } from './messages.js';
import { AGENT, agentSide, hubSide, LINE, NONCE, OTHER_AGENT } from './testing/sides.js';

const OURS = 'cccccccc-0000-4000-8000-000000000002';
const THEIRS = 'cccccccc-0000-4000-8000-000000000003';
const ELSE = 'cccccccc-0000-4000-8000-000000000004';
const AT = Date.UTC(2026, 0, 2, 3, 4, 5);

function hello(line: Line, changes: Partial<Hello> = {}): Hello {
  const written = { host: 'kvm3', markedBytes: 65_536, windowBytes: 4_096, sinceUnixMs: AT };
  return agentSide({ line, restsOn: 50, durableNumber: 70, written, ...changes });
}

function hub(line: Line, changes: Partial<HubGroup> = {}): HubGroup {
  const writer = { agentId: OTHER_AGENT, session: 4 };
  const written = { journalBytes: 12_345, begunUnixMs: AT - 1000, writer };
  return hubSide({
    ownerNonce: NONCE,
    line,
    lastNumber: 90,
    lastChecksum: 1,
    consistentNumber: 90,
    written,
    ...changes,
  });
}

const root = (id = LINE): Line => ({ id, parent: null });
const child = (id: string, number: number, of = LINE): Line => ({ id, parent: { id: of, number } });

type Row = readonly [
  what: string,
  agent: Line,
  hub: Line,
  expected: {
    readonly common: Divergence['common'];
    readonly agentRecords: number | null;
    readonly once: number | null;
    readonly hubRecords: number | null;
    readonly journalBytes: number | null;
  },
];

const ROWS: readonly Row[] = [
  [
    'the hub left the agent’s line: all of its own line is since then',
    root(),
    child(THEIRS, 60),
    {
      common: { line: LINE, number: 60 },
      agentRecords: 40,
      once: 10,
      hubRecords: 30,
      journalBytes: 12_345,
    },
  ],
  [
    'the agent left the hub’s line: how many bytes of it the hub wrote since, nobody counted',
    child(OURS, 80),
    root(),
    {
      common: { line: LINE, number: 80 },
      agentRecords: 20,
      once: 0,
      hubRecords: 10,
      journalBytes: null,
    },
  ],
  [
    'the agent left the hub’s line at its end: the hub has written nothing since',
    child(OURS, 90),
    root(),
    { common: { line: LINE, number: 90 }, agentRecords: 10, once: 0, hubRecords: 0, journalBytes: 0 },
  ],
  [
    'both left the same line, at different numbers: the lower one is the last in common',
    child(OURS, 80),
    child(THEIRS, 60),
    {
      common: { line: LINE, number: 60 },
      agentRecords: 40,
      once: 10,
      hubRecords: 30,
      journalBytes: 12_345,
    },
  ],
  [
    'both left the same line, the hub later: its own line is not all that it wrote since',
    child(OURS, 60),
    child(THEIRS, 80),
    {
      common: { line: LINE, number: 60 },
      agentRecords: 40,
      once: 10,
      hubRecords: 30,
      journalBytes: null,
    },
  ],
  [
    'lines that do not know of one another: nothing is known since when',
    root(OURS),
    root(THEIRS),
    { common: null, agentRecords: null, once: null, hubRecords: null, journalBytes: null },
  ],
  [
    'children of different lines: the same',
    child(OURS, 80, ELSE),
    child(THEIRS, 60),
    { common: null, agentRecords: null, once: null, hubRecords: null, journalBytes: null },
  ],
];

describe('what parts agent and hub (promise LINEAGE)', () => {
  test.for(ROWS)('%s', ([, agentLine, hubLine, expected]) => {
    const found = explainDivergence('split-brain', hello(agentLine), hub(hubLine), 100);
    expect({
      common: found.common,
      agentRecords: found.agent.records,
      once: found.agent.recordsOnceDurable,
      hubRecords: found.hub.records,
      journalBytes: found.hub.journalBytes,
    }).toEqual(expected);
    expect(found.agent).toMatchObject({ agentId: AGENT, host: 'kvm3', unsentBytesAtMost: 69_632 });
    expect(divergenceSchema.parse(found)).toEqual(found);
  });

  test('the sentence names lines, numbers, writers, bytes and times', () => {
    const found = explainDivergence('superseded', hello(root()), hub(child(THEIRS, 60)), 100);
    expect(divergenceSentence(found)).toBe(
      `parted: after number 60 of line ${LINE}; at the agent: agent ${AGENT} on kvm3, line ${LINE} up to number 100 at most, ` +
        'at most 40 records since (a crash leaves numbers unused), 10 of them once durable at a hub, at most 69632 bytes that no hub has, written since ' +
        `2026-01-02T03:04:05.000Z; at the hub: agent ${OTHER_AGENT} in session 4, line ${THEIRS} up to number 90, 30 records since, ` +
        '12345 bytes of journal since, its line, begun 2026-01-02T03:04:04.000Z, has 12345 bytes in all',
    );
    const byHub = explainDivergence('superseded', hello(root()), hub(child(THEIRS, 60), { failedOver: true }), 100);
    expect(divergenceSentence(byHub)).toContain('at the hub: the hub, failed over, line');
  });

  test('what nobody tells is said as unknown, never as nothing', () => {
    const agent = hello(root(OURS), { tracking: 'clean' });
    const other = hub(root(THEIRS));
    delete agent.written;
    delete other.written;
    const found = explainDivergence('split-brain', agent, other, 100);
    expect(divergenceSentence(found)).toBe(
      'parted: unknown: neither line says where it left the other; ' +
        `at the agent: agent ${AGENT}, line ${OURS} up to number 100, records since unknown, bytes unknown; ` +
        `at the hub: an unknown writer, line ${THEIRS} up to number 90, records since unknown, bytes since unknown, begin of its line unknown`,
    );
  });

  test('the verdicts that part the sides carry it, the others do not', () => {
    const parted = decideLineage(hello(root(OURS)), hub(root(THEIRS)));
    expect(parted).toMatchObject({ row: 'L7-split-brain', divergence: { kind: 'split-brain', common: null } });
    expect(parted.reason).not.toContain('bytes');
    expect(fullReason(parted)).toContain(`${parted.reason}; parted: unknown`);
    expect(fullReason(parted)).toContain('bytes that no hub has');
    expect(decideLineage(hello(root()), hub(child(THEIRS, 60)))).toMatchObject({
      row: 'L6-other-line',
      divergence: { kind: 'superseded', common: { number: 60 } },
    });
    expect(decideLineage(hello(root()), hub(root(), { failedOver: true }))).toMatchObject({
      row: 'L5-failed-over',
      divergence: { common: { line: LINE, number: 90 }, hub: { records: 0, journalBytes: 0 } },
    });
    expect(decideLineage(hello(root()), hub(root())).divergence).toBeUndefined();
  });
});
