import { uuidBytes } from '@rephub/platform';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decideLineage, firstNumberOf, LINEAGE_TABLE, type LineageRow } from './lineage.js';
import {
  chainStart,
  type Hello,
  type HubGroup,
  type Line,
  type VerdictKind,
  type VolumeDescription,
} from './messages.js';
import { AGENT, agentSide, DISK, hubSide, LINE, OTHER_AGENT } from './testing/sides.js';

const CHILD = 'cccccccc-0000-4000-8000-000000000002';
const STRANGER = 'cccccccc-0000-4000-8000-000000000003';
const SECOND_DISK = { index: 1, name: 'disk1', sizeBytes: 1 << 30 };

const child = { id: CHILD, parent: { id: LINE, number: 60 } };
const window91 = { first: 91, last: 100, previousChecksum: 0xabcd };

interface Case {
  readonly row: LineageRow;
  readonly kind: VerdictKind;
  readonly what: string;
  readonly hello: Hello;
  readonly hub: HubGroup | null;
  readonly nextNumber: number;
  readonly resumeFrom?: number;
}

const CASES: readonly Case[] = [
  {
    row: 'L1-unknown-new',
    kind: 'first-sync',
    what: 'a new agent meets a hub that has never heard of the group',
    hello: agentSide({ tracking: 'new', lastNumber: 0, restsOn: 0, durableNumber: 0 }),
    hub: null,
    nextNumber: 1,
  },
  {
    row: 'L1-unknown-new',
    kind: 'first-sync',
    what: 'an agent that has long been running as a mere proxy is given a hub',
    hello: agentSide({ tracking: 'marked', lastNumber: 0, restsOn: 0, durableNumber: 0 }),
    hub: null,
    nextNumber: 1,
  },
  {
    row: 'L2-unknown-known',
    kind: 'first-sync',
    what: 'the group was forgotten at the hub, or the hub lost its disk: numbers go on, none is given twice',
    hello: agentSide({ tracking: 'clean' }),
    hub: null,
    nextNumber: 101,
  },
  {
    row: 'L3-foreign-agent',
    kind: 'refuse',
    what: 'another agent owns the group, however well everything else fits',
    hello: agentSide({ agentId: OTHER_AGENT, tracking: 'clean' }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L4-session-back',
    kind: 'refuse',
    what: 'the state directory was restored: the session number went back',
    hello: agentSide({ session: 5 }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L4-session-back',
    kind: 'refuse',
    what: 'the state directory was copied: same session, another process',
    hello: agentSide({ session: 6 }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L4-session-back',
    kind: 'refuse',
    what: 'the state directory was restored, and started so often that its session passed the hub’s',
    hello: agentSide({ session: 9, earlierSessions: [6, 7, 8].map((session) => ({ session, nonce: 'ffffffff' })) }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L5-failed-over',
    kind: 'superseded',
    what: 'the hub has failed over and the recovery VM has written',
    hello: agentSide(),
    hub: hubSide({ failedOver: true, line: child }),
    nextNumber: 101,
  },
  {
    row: 'L5-failed-over',
    kind: 'superseded',
    what: 'the hub has failed over and nothing was written yet: the line is still the same, the stream is fenced all the same',
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ failedOver: true }),
    nextNumber: 101,
  },
  {
    row: 'L5-failed-over',
    kind: 'superseded',
    what: 'the hub has failed over and a volume was grown there: the fence is told, not the size',
    hello: agentSide(),
    hub: hubSide({ failedOver: true, volumes: [{ ...DISK, sizeBytes: 2 << 30 }] }),
    nextNumber: 101,
  },
  {
    row: 'L6-other-line',
    kind: 'superseded',
    what: "the failover was committed: the hub's line descends from the agent's",
    hello: agentSide(),
    hub: hubSide({ line: child, lastNumber: 500 }),
    nextNumber: 501,
  },
  {
    row: 'L7-split-brain',
    kind: 'split-brain',
    what: 'the lines have nothing to do with each other',
    hello: agentSide({ line: { id: STRANGER, parent: null } }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L7-split-brain',
    kind: 'split-brain',
    what: "the agent's line descends from the hub's: the hub was restored from before, or rolled back",
    hello: agentSide({ line: child }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L8-volumes',
    kind: 'refuse',
    what: 'a volume is smaller than the hub knows it, and nobody has said that it may be',
    hello: agentSide(),
    hub: hubSide({ volumes: [{ ...DISK, sizeBytes: DISK.sizeBytes + 1 }] }),
    nextNumber: 101,
  },
  {
    row: 'L8-volumes',
    kind: 'refuse',
    what: 'two volumes have changed places',
    hello: agentSide({ volumes: [DISK, SECOND_DISK] }),
    hub: hubSide({
      volumes: [
        { ...DISK, index: 1 },
        { ...SECOND_DISK, index: 0 },
      ],
    }),
    nextNumber: 101,
  },
  {
    row: 'L8-volumes',
    kind: 'refuse',
    what: 'the hub knows the place of a volume under another name',
    hello: agentSide(),
    hub: hubSide({ volumes: [{ ...DISK, name: 'root' }] }),
    nextNumber: 101,
  },
  {
    row: 'L9-hub-older',
    kind: 'compare-everything',
    what: 'the hub was restored from a backup older than what cleared marks rest on',
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ lastNumber: 79 }),
    nextNumber: 101,
  },
  {
    row: 'L10-hub-lost-durable',
    kind: 'compare-everything',
    what: 'the hub has less than it once called durable, though no cleared mark rests on it',
    hello: agentSide({ window: { ...window91, first: 80 } }),
    hub: hubSide({ lastNumber: 85 }),
    nextNumber: 101,
  },
  {
    row: 'L11-hub-ahead',
    kind: 'refuse',
    what: 'the agent stopped in an orderly way at 100 and the hub has more: its state is a restored one',
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ lastNumber: 130 }),
    nextNumber: 131,
  },
  {
    row: 'L11-hub-ahead',
    kind: 'refuse',
    what: 'a process that has given numbers up to 100 meets a hub with more: somebody else wrote in its name',
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 101 }),
    nextNumber: 102,
  },
  {
    row: 'L12-other-record',
    kind: 'compare-everything',
    what: "the hub's last record is not the one that comes before the window",
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 90, lastChecksum: 0x1234 }),
    nextNumber: 101,
  },
  {
    row: 'L13-never-consistent',
    kind: 'first-sync',
    what: 'the hub made the group and was cut off before the first span reached it',
    hello: agentSide({ lastNumber: 0, restsOn: 0, durableNumber: 0 }),
    hub: hubSide({ lastNumber: 0, consistentNumber: null }),
    nextNumber: 1,
  },
  {
    row: 'L13-never-consistent',
    kind: 'first-sync',
    what: 'the first sync was cut and the agent lost trust in its marks',
    hello: agentSide({ tracking: 'untrusted' }),
    hub: hubSide({ consistentNumber: null, spanOpen: true }),
    nextNumber: 101,
  },
  {
    row: 'L14-untrusted',
    kind: 'compare-everything',
    what: 'the bitmap was torn, whatever the numbers and the window say',
    hello: agentSide({ tracking: 'untrusted', window: window91 }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L14-untrusted',
    kind: 'compare-everything',
    what: 'a new agent meets a replica of its own that was seeded',
    hello: agentSide({ tracking: 'new', lastNumber: 0, restsOn: 0, durableNumber: 0 }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L15-equal',
    kind: 'nothing-to-do',
    what: 'both stopped in an orderly way',
    hello: agentSide({ tracking: 'clean', restsOn: 100, durableNumber: 100 }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: 'the link was cut for a moment: the window has what the hub lacks',
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 95 }),
    nextNumber: 101,
    resumeFrom: 96,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: 'the hub lost power with what it had received and not made durable',
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 90 }),
    nextNumber: 101,
    resumeFrom: 91,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: 'only the acknowledgement was lost: nothing has to be sent again',
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 100 }),
    nextNumber: 101,
    resumeFrom: 101,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: 'cut in the middle of a span: it goes on where it was',
    hello: agentSide({ window: window91 }),
    hub: hubSide({ lastNumber: 95, spanOpen: true, consistentNumber: null }),
    nextNumber: 101,
    resumeFrom: 96,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: "the window begins with a span's begin that skipped numbers: the checksum shows that nothing is missing",
    hello: agentSide({ window: { ...window91, previousChecksum: 0x77 }, durableNumber: 85 }),
    hub: hubSide({ lastNumber: 85, lastChecksum: 0x77 }),
    nextNumber: 101,
    resumeFrom: 91,
  },
  {
    row: 'L16-resume',
    kind: 'resume',
    what: "the very first records were lost: the window begins at the line's start",
    hello: agentSide({
      lastNumber: 9,
      restsOn: 0,
      durableNumber: 0,
      window: { first: 1, last: 9, previousChecksum: chainStart(uuidBytes(LINE)) },
    }),
    hub: hubSide({ lastNumber: 0, lastChecksum: 0, consistentNumber: null }),
    nextNumber: 10,
    resumeFrom: 1,
  },
  {
    row: 'L17-first-sync-cut',
    kind: 'resync-by-bitmap',
    what: 'the agent was killed during the first sync: the marks say what is missing, it does not start over',
    hello: agentSide(),
    hub: hubSide({ consistentNumber: null, spanOpen: true, lastNumber: 110 }),
    nextNumber: 111,
  },
  {
    row: 'L18-span-open',
    kind: 'resync-by-bitmap',
    what: 'the agent was killed during a resync; a new process continues the span',
    hello: agentSide(),
    hub: hubSide({ spanOpen: true, consistentNumber: 40 }),
    nextNumber: 101,
  },
  {
    row: 'L18-span-open',
    kind: 'resync-by-bitmap',
    what: "all is copied but the span's end did not arrive: no mark is set, and yet there is something to do",
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ spanOpen: true, consistentNumber: 40 }),
    nextNumber: 101,
  },
  {
    row: 'L19-volume-set',
    kind: 'resync-by-bitmap',
    what: 'the agent has a volume that the hub does not know',
    hello: agentSide({ tracking: 'clean', volumes: [DISK, SECOND_DISK] }),
    hub: hubSide(),
    nextNumber: 101,
  },
  {
    row: 'L19-volume-set',
    kind: 'resync-by-bitmap',
    what: 'a volume was taken away while the agent was down',
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ volumes: [DISK, SECOND_DISK] }),
    nextNumber: 101,
  },
  {
    row: 'L19-volume-set',
    kind: 'resync-by-bitmap',
    what: 'a volume has grown',
    hello: agentSide({ tracking: 'clean' }),
    hub: hubSide({ volumes: [{ ...DISK, sizeBytes: 1 << 20 }] }),
    nextNumber: 101,
  },
  {
    row: 'L19-volume-set',
    kind: 'resync-by-bitmap',
    what: "a volume has shrunk by the operator's word",
    hello: agentSide({ tracking: 'clean', mayShrink: true }),
    hub: hubSide({ volumes: [{ ...DISK, sizeBytes: DISK.sizeBytes * 2 }] }),
    nextNumber: 101,
  },
  {
    row: 'L20-hub-behind',
    kind: 'resync-by-bitmap',
    what: 'the agent was killed with records under way',
    hello: agentSide({ lastNumber: 120 }),
    hub: hubSide(),
    nextNumber: 121,
  },
  {
    row: 'L20-hub-behind',
    kind: 'resync-by-bitmap',
    what: 'no mark is set, and the hub lacks the last flush and checkpoint markers',
    hello: agentSide({ tracking: 'clean', lastNumber: 102 }),
    hub: hubSide(),
    nextNumber: 103,
  },
  {
    row: 'L20-hub-behind',
    kind: 'resync-by-bitmap',
    what: 'the window begins too late: what lies before it was given up',
    hello: agentSide({ window: { first: 97, last: 100, previousChecksum: 5 } }),
    hub: hubSide({ lastNumber: 92 }),
    nextNumber: 101,
  },
  {
    row: 'L20-hub-behind',
    kind: 'resync-by-bitmap',
    what: 'the window ends before the last number that was given',
    hello: agentSide({ window: { ...window91, last: 98 } }),
    hub: hubSide({ lastNumber: 95 }),
    nextNumber: 101,
  },
  {
    row: 'L21-marked',
    kind: 'resync-by-bitmap',
    what: 'the agent was killed and the hub has more than its state remembers',
    hello: agentSide(),
    hub: hubSide({ lastNumber: 117 }),
    nextNumber: 118,
  },
];

describe('lineage table', () => {
  test.each(CASES)('$row: $what', (given) => {
    const verdict = decideLineage(given.hello, given.hub);
    expect({ row: verdict.row, kind: verdict.kind, nextNumber: verdict.nextNumber }).toEqual({
      row: given.row,
      kind: given.kind,
      nextNumber: given.nextNumber,
    });
    expect(verdict.resumeFrom).toBe(given.resumeFrom);
    expect(verdict.reason.length).toBeGreaterThan(20);
    expect(firstNumberOf(verdict)).toBe(given.resumeFrom ?? given.nextNumber);
  });

  test('every row has a case of its own', () => {
    expect(new Set(CASES.map((given) => given.row))).toEqual(new Set(LINEAGE_TABLE.map((row) => row.id)));
  });

  test('a number that is a safe integer leads to a reason that names it', () => {
    expect(decideLineage(agentSide(), hubSide({ lastNumber: 79 })).reason).toContain('number 79');
    expect(decideLineage(agentSide(), hubSide({ lastNumber: 79 })).reason).toContain('80');
    expect(decideLineage(agentSide({ session: 5 }), hubSide()).reason).toContain('session 5');
    expect(decideLineage(agentSide(), hubSide({ line: child, lastNumber: 500 })).reason).toContain(
      'at most 40 records beyond it',
    );
  });

  test('a crash is not told as a million records that the hub lacks: numbers that were set aside count nothing', () => {
    const behind = decideLineage(agentSide({ lastNumber: 1_048_576 }), hubSide());
    expect(behind.row).toBe('L20-hub-behind');
    expect(behind.reason).toMatch(/the agent had no orderly end, and goes on above 1048576, .* they count no writes/);
    expect(behind.reason).not.toContain('the agent at 1048576');
    const known = decideLineage(agentSide({ tracking: 'clean', lastNumber: 120 }), hubSide());
    expect(known.reason).toContain('the hub ends at number 100, the agent at 120');
  });

  test('a group that is given to another agent is not told as unknown to the hub', () => {
    for (const hello of [agentSide(), agentSide({ restsOn: 0, durableNumber: 0 })]) {
      expect(decideLineage(hello, null).reason).toContain("holds nothing of this agent's for group vm1");
    }
  });

  test('a new span names the record that the hub holds last, or the start of the line where it holds none', () => {
    expect(decideLineage(agentSide(), hubSide({ lastNumber: 117 })).previousChecksum).toBe(0xabcd);
    expect(decideLineage(agentSide(), hubSide({ lastNumber: 0 })).previousChecksum).toBe(chainStart(uuidBytes(LINE)));
    expect(decideLineage(agentSide(), null).previousChecksum).toBe(chainStart(uuidBytes(LINE)));
  });
});

const number = fc.integer({ min: 0, max: 12 });
const someLine = fc.constantFrom<Line>(
  { id: LINE, parent: null },
  { id: LINE, parent: null },
  { id: LINE, parent: null },
  { id: CHILD, parent: { id: LINE, number: 4 } },
  { id: STRANGER, parent: null },
);
const someVolumes = fc.constantFrom<VolumeDescription[]>(
  [DISK],
  [DISK],
  [DISK, SECOND_DISK],
  [{ ...DISK, sizeBytes: 512 }],
);
const someHello: fc.Arbitrary<Hello> = fc
  .record({
    agentId: fc.constantFrom(AGENT, AGENT, AGENT, AGENT, OTHER_AGENT),
    session: fc.integer({ min: 5, max: 9 }),
    line: someLine,
    lastNumber: number,
    restsOn: number,
    durableNumber: number,
    window: fc.option(fc.record({ first: number, last: number, previousChecksum: fc.integer({ min: 1, max: 2 }) })),
    tracking: fc.constantFrom('new' as const, 'clean' as const, 'marked' as const, 'untrusted' as const),
    volumes: someVolumes,
  })
  .map((drawn) => agentSide(drawn));
const someHub: fc.Arbitrary<HubGroup | null> = fc.option(
  fc
    .record({
      ownerSession: fc.integer({ min: 4, max: 7 }),
      line: someLine,
      lastNumber: number,
      lastChecksum: fc.integer({ min: 1, max: 2 }),
      spanOpen: fc.boolean(),
      consistentNumber: fc.option(number),
      failedOver: fc.constantFrom(false, false, false, true),
      volumes: someVolumes,
    })
    .map((drawn) => hubSide(drawn)),
  { freq: 20 },
);

describe('lineage, any input', () => {
  const check = (property: (agent: Hello, group: HubGroup | null) => void, numRuns = 5_000): void => {
    fc.assert(fc.property(someHello, someHub, property), { numRuns });
  };

  test('meets a row, and the first one that it meets decides', () => {
    const met = new Set<string>();
    check((agent, group) => {
      const verdict = decideLineage(agent, group);
      const first = LINEAGE_TABLE.find((row) => row.when(agent, group));
      expect(first?.id).toBe(verdict.row);
      expect(first?.kind).toBe(verdict.kind);
      met.add(verdict.row);
    }, 20_000);
    expect(met).toEqual(new Set(LINEAGE_TABLE.map((row) => row.id)));
  });

  test('the last row, which takes what is left, is left only marked agents', () => {
    check((agent, group) => {
      if (decideLineage(agent, group).row === 'L21-marked') expect(agent.tracking).toBe('marked');
    });
  });

  test('nothing-to-do only when clean, equal, closed, consistent, on one line, with the same volumes', () => {
    check((agent, group) => {
      if (decideLineage(agent, group).kind !== 'nothing-to-do') return;
      expect(agent.tracking).toBe('clean');
      expect(group?.lastNumber).toBe(
        Math.max(
          agent.lastNumber,
          agent.restsOn,
          agent.durableNumber,
          agent.window?.last ?? 0,
          agent.line.parent?.number ?? 0,
        ),
      );
      expect(group?.spanOpen).toBe(false);
      expect(group?.consistentNumber).not.toBeNull();
      expect(group?.line.id).toBe(agent.line.id);
      expect(group?.volumes).toEqual(agent.volumes);
    });
  });

  test("resume only when the window holds every number after the hub's last", () => {
    check((agent, group) => {
      const verdict = decideLineage(agent, group);
      if (verdict.kind !== 'resume') {
        expect(verdict.resumeFrom).toBeUndefined();
        return;
      }
      const window = agent.window;
      if (window === null || group === null) throw new Error('resume without a window');
      expect(window.last).toBeGreaterThanOrEqual(Math.max(agent.lastNumber, agent.durableNumber, group.lastNumber));
      // Either all numbers from there on, or all that were given: the record before the window is the hub's last.
      const noneMissing = window.first <= group.lastNumber + 1;
      const skipped =
        group.lastNumber < window.first && group.lastNumber > 0 && group.lastChecksum === window.previousChecksum;
      const fromStart = group.lastNumber === 0 && window.previousChecksum === chainStart(uuidBytes(LINE));
      expect(noneMissing || skipped || fromStart).toBe(true);
      expect(verdict.resumeFrom).toBe(Math.max(group.lastNumber + 1, window.first));
    });
  });

  test('a hub that offers less than cleared marks rest on, or than it called durable, is never resumed or taken as equal', () => {
    check((agent, group) => {
      const { kind } = decideLineage(agent, group);
      if (group === null || group.lastNumber >= Math.max(agent.restsOn, agent.durableNumber)) return;
      expect(['resume', 'nothing-to-do', 'resync-by-bitmap']).not.toContain(kind);
    });
  });

  test('marks that are not trusted are never used', () => {
    check((agent, group) => {
      if (agent.tracking === 'clean' || agent.tracking === 'marked') return;
      expect(['resume', 'nothing-to-do', 'resync-by-bitmap']).not.toContain(decideLineage(agent, group).kind);
    });
  });

  test('a hub that has failed over takes nothing', () => {
    check((agent, group) => {
      if (group?.failedOver === true) expect(['superseded', 'refuse']).toContain(decideLineage(agent, group).kind);
    });
  });

  test('no number is given that either side knows of', () => {
    check((agent, group) => {
      const { nextNumber } = decideLineage(agent, group);
      expect(nextNumber).toBeGreaterThan(
        Math.max(agent.lastNumber, agent.restsOn, agent.durableNumber, agent.window?.last ?? 0, group?.lastNumber ?? 0),
      );
    });
  });
});
