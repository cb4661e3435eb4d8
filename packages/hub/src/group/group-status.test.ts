import { type AgentReport, PAUSED_FAREWELL } from '@rephub/protocol';
import { describe, expect, test } from 'vitest';
import type { GroupState } from '../storage/index.js';
import { type GroupFacts, groupStatus, toldAtMs } from './group-status.js';

const report: AgentReport = {
  state: 'protected',
  reason: 'in step',
  mode: 'async',
  effectiveMode: 'async',
  rpoMs: 0,
  lagBytes: 0,
  dirtyBytes: 0,
  lastNumber: 10,
  resync: null,
  lastResync: null,
};

const store: GroupState = {
  group: 'vm1',
  line: { id: '00000000-0000-4000-8000-000000000001', parent: null },
  owner: null,
  volumes: [{ index: 0, name: 'disk0', sizeBytes: 4096, unreadableBytes: 0 }],
  lastNumber: 10,
  lastChecksum: 0,
  durableNumber: 10,
  consistentNumber: 10,
  consistentTimeUs: 1_700_000_000_000_000,
  spanOpen: false,
  appliedNumber: 3,
  journalBytes: 8192,
  indexBytes: 100,
  queuedBytes: 0,
  stalled: null,
  corrupted: null,
  wantsComparison: false,
  openViews: 0,
  branches: [],
};

const line = { id: 'cccccccc-0000-4000-8000-000000000001', parent: null };
const parted: GroupFacts['divergence'] = {
  kind: 'split-brain',
  common: null,
  agent: {
    line,
    agentId: 'aaaaaaaa-0000-4000-8000-000000000001',
    host: null,
    lastNumber: 5,
    isLastNumberExact: false,
    records: null,
    recordsOnceDurable: null,
    unsentBytesAtMost: null,
    unsentSinceUnixMs: null,
  },
  hub: {
    line,
    failedOver: false,
    writer: null,
    lastNumber: 9,
    records: null,
    journalBytes: null,
    lineJournalBytes: null,
    lineBegunUnixMs: null,
  },
};

function status(
  facts: Partial<GroupFacts> = {},
  ofStore: Partial<GroupState> = {},
  ofReport: Partial<AgentReport> = {},
) {
  return groupStatus({
    name: 'vm1',
    store: { ...store, ...ofStore },
    trouble: null,
    ownFault: null,
    connected: true,
    farewell: null,
    mode: 'async',
    report: { ...report, ...ofReport },
    silentMs: 200,
    unheardMs: facts.silentMs ?? 200,
    heardBefore: null,
    unixMs: 1_700_000_000_000,
    heartbeatMs: 1000,
    timeoutMs: 5000,
    paused: false,
    tests: [],
    divergence: null,
    enrolled: false,
    received: { rawBytes: 0, carriedBytes: 0, compression: 'none' },
    ...facts,
  });
}

describe('the state of a group', () => {
  test('an agent in session that says protected is believed', () => {
    expect(status()).toMatchObject({ state: 'protected', reason: 'in step', rpoSeconds: 0, lagBytes: 0, seq: 10 });
  });

  test.for<[string, string, Partial<GroupFacts>, Partial<GroupState>, Partial<AgentReport>]>([
    ['a first sync is unprotected', 'unprotected', {}, { consistentNumber: null }, {}],
    [
      'a first sync stays unprotected when the agent is gone',
      'unprotected',
      { connected: false, silentMs: 1e6 },
      { consistentNumber: null },
      {},
    ],
    ['silence past the timeout is unknown', 'unknown', { silentMs: 5001 }, {}, {}],
    [
      'silence past the timeout is unknown without a session too',
      'unknown',
      { silentMs: 5001, connected: false },
      {},
      {},
    ],
    ['an agent that was never heard is unknown', 'unknown', { report: null }, {}, {}],
    [
      'two lines are degraded, however long the agent is silent',
      'degraded',
      { silentMs: 1e6, connected: false, divergence: parted },
      {},
      {},
    ],
    ['a cut shorter than the timeout is catching up', 'catching-up', { connected: false }, {}, {}],
    ['a cut does not hide that the agent was degraded', 'degraded', { connected: false }, {}, { state: 'degraded' }],
    ['a full disk is degraded', 'degraded', {}, { stalled: 'disk-full' }, {}],
    ['a journal that waits is degraded', 'degraded', { silentMs: 1e6 }, { stalled: 'journal-waits' }, {}],
    [
      'a full disk is degraded also while the hub reads nothing',
      'degraded',
      { paused: true, silentMs: 60_000 },
      { stalled: 'disk-full' },
      {},
    ],
    [
      'a dead journal is degraded even when the agent is silent',
      'degraded',
      { silentMs: 1e6 },
      { stalled: 'journal-failed' },
      {},
    ],
    ['a resync that has no room is degraded', 'degraded', {}, { spanShort: { neededBytes: 9, shortBytes: 4 } }, {}],
    ['base images that are not brought up to date are degraded', 'degraded', {}, { applyFailed: 'io-error: x' }, {}],
    ['a bug in the group itself is degraded', 'degraded', { ownFault: 'watching: x' }, {}, {}],
    ['base images that wait for something are degraded', 'degraded', {}, { applyWaits: 'no handle' }, {}],
    [
      'a last good point that was given up is unprotected',
      'unprotected',
      {},
      { consistentNumber: null, lastGoodDropped: true },
      {},
    ],
    ['damage is degraded', 'degraded', {}, { corrupted: 'segment 3' }, {}],
    [
      'a journal that failed before there was a point',
      'unprotected',
      {},
      { stalled: 'journal-failed', consistentNumber: null },
      {},
    ],
    ['damage that left no point', 'unprotected', {}, { corrupted: 'segment 3', consistentNumber: null }, {}],
    [
      'what upstream cannot read is degraded',
      'degraded',
      {},
      { volumes: [{ index: 0, name: 'd', sizeBytes: 9, unreadableBytes: 5 }] },
      {},
    ],
    ['an open span is never protected', 'catching-up', {}, { spanOpen: true }, {}],
    ['a hub that is too slow to read is degraded', 'degraded', { paused: true, silentMs: 6000 }, {}, {}],
    ['paused by its operator is what the agent says', 'degraded', {}, {}, { state: 'degraded', reason: 'paused' }],
    ['storage that cannot be opened is degraded', 'degraded', { store: null, trouble: 'io-error: x' }, {}, {}],
  ])('%s', ([, state, facts, ofStore, ofReport]) => {
    expect(status(facts, ofStore, ofReport).state).toBe(state);
  });
});

test('the reasons of want of room and of a failed applier name the figures and the fault', () => {
  const short = status({}, { spanShort: { neededBytes: 900, shortBytes: 400 } });
  expect(short.reason).toContain('up to 900 bytes');
  expect(short.reason).toContain('400 bytes are short');
  expect(short.resyncShort).toEqual({ neededBytes: 900, shortBytes: 400 });
  const failed = status({}, { applyFailed: 'io-error: x', room: { freeBytes: 5, reserveBytes: 2 } });
  expect(failed).toMatchObject({
    reason: 'io-error: x',
    applyFailed: 'io-error: x',
    room: { freeBytes: 5, reserveBytes: 2 },
  });
  const journal = status({}, { stalled: 'journal-waits', journalWaits: 'no handle' });
  expect(journal).toMatchObject({ reason: 'journal-waits: no handle', journalWaits: 'no handle' });
  const first = { consistentNumber: null, stalled: 'disk-full' } as const;
  expect(status({}, first)).toMatchObject({ state: 'unprotected', reason: 'first-sync, disk-full' });
  const waits = status({}, { applyWaits: 'no handle' });
  expect(waits).toMatchObject({
    reason: expect.stringMatching(/for now: no handle$/) as string,
    applyWaits: 'no handle',
  });
  expect(status()).toMatchObject({
    applyFailed: null,
    applyWaits: null,
    journalWaits: null,
    resyncShort: null,
    room: null,
  });
});

describe('RPO: the figure', () => {
  test('is the agent’s and the age of its beat: what was exposed then is older now', () => {
    expect(status({ silentMs: 1000 }, {}, { rpoMs: 400 }).rpoSeconds).toBe(1.4);
    expect(status({ silentMs: 3500 }, {}, { rpoMs: 400 }).rpoSeconds).toBe(3.9);
  });

  test('is nothing for a beat that told of nothing, until the next one is due', () => {
    expect(status({ silentMs: 1000 }, {}, { rpoMs: 0 }).rpoSeconds).toBe(0);
    expect(status({ silentMs: 3500 }, {}, { rpoMs: 0 }).rpoSeconds).toBe(2.5);
  });

  test('counts from a beat that told of nothing as soon as records wait here, or in the socket', () => {
    const waiting = { lastNumber: 12, durableNumber: 10 };
    expect(status({ silentMs: 800 }, waiting, { rpoMs: 0 }).rpoSeconds).toBe(0.8);
    expect(status({ silentMs: 800, paused: true }, {}, { rpoMs: 0 }).rpoSeconds).toBe(0.8);
    expect(status({ silentMs: 800 }, { stalled: 'disk-full' }, { rpoMs: 0 }).rpoSeconds).toBe(0);
  });

  test('of the lag is what waits here where the agent has told of less, and nothing once its beat waits too', () => {
    const waiting = { lastNumber: 12, queuedBytes: 5000, stalled: 'disk-full' } as const;
    expect(status({ silentMs: 200 }, waiting, { lagBytes: 0 }).lagBytes).toBe(5000);
    expect(status({ silentMs: 200 }, waiting, { lagBytes: 7000 }).lagBytes).toBe(7000);
    expect(status({ silentMs: 900, paused: true }, waiting, { lagBytes: 0 }).lagBytes).toBe(5000);
    expect(status({ silentMs: 1001, paused: true }, waiting, { lagBytes: 0 }).lagBytes).toBeNull();
    expect(status({ silentMs: 1001 }, waiting, { lagBytes: 0 }).lagBytes).toBe(5000);
  });

  test('is unknown past the timeout, with a lower bound, and so is the lag', () => {
    const seen = status({ silentMs: 61_000 }, {}, { rpoMs: 400, lagBytes: 77 });
    expect(seen).toMatchObject({ rpoSeconds: null, rpoAtLeastSeconds: 61.4, lagBytes: null });
  });

  test('is unknown while there is no point to open', () => {
    expect(status({}, { consistentNumber: null })).toMatchObject({ rpoSeconds: null, consistentTime: null });
  });

  test('is unknown before the agent has been heard', () => {
    expect(status({ report: null, silentMs: 1500 })).toMatchObject({ rpoSeconds: null, rpoAtLeastSeconds: 1.5 });
  });

  test('counts after a restart from what the agent told before it, and never less than the hub has run', () => {
    const heardBefore = { sinceUnixMs: 1_699_999_000_000, ageMs: 1_001_500 };
    const seen = status({ report: null, silentMs: 6000, heardBefore });
    expect(seen).toMatchObject({
      state: 'unknown',
      rpoSeconds: null,
      rpoAtLeastSeconds: 1001.5,
      rpoSince: { at: '2023-11-14T21:56:40.000Z', by: 'last-report' },
    });
    expect(seen.reason).toMatch(/not heard since the hub started; .* 2023-11-14T21:56:40.000Z: its last report/);
    const young = status({ report: null, silentMs: 6000, heardBefore: { ...heardBefore, ageMs: 100 } });
    expect(young.rpoAtLeastSeconds).toBe(6);
  });

  test('counts after a restart from the newest point where no report is known, and by no clock that went back', () => {
    const hourLater = { report: null, silentMs: 6000, unixMs: 1_700_003_600_000 };
    const seen = status(hourLater);
    expect(seen).toMatchObject({ rpoAtLeastSeconds: 3600, rpoSince: { by: 'newest-point' } });
    expect(seen.reason).toContain('2023-11-14T22:13:20.000Z: the newest point, by the clock of the agent');
    expect(status({ ...hourLater, unixMs: 0 }).rpoAtLeastSeconds).toBe(6);
    expect(status(hourLater, { consistentNumber: null })).toMatchObject({ rpoAtLeastSeconds: 6, rpoSince: null });
    expect(status().rpoSince).toBeNull();
  });

  test('is never shown better than it is by rounding', () => {
    expect(status({ silentMs: 0 }, {}, { rpoMs: 1 }).rpoSeconds).toBe(0.01);
  });
});

describe('the age of a beat (promise RPO)', () => {
  test('is not less than that of the beat it echoes, but for an interval', () => {
    expect(toldAtMs(10_000, 9_950, 5_000, 1_000)).toBe(10_000);
    expect(toldAtMs(10_000, 6_000, 5_000, 1_000)).toBe(7_000);
  });

  test('is reckoned from the session where the echo is older, or of another process', () => {
    expect(toldAtMs(10_000, 3, 9_500, 1_000)).toBe(10_000);
    expect(toldAtMs(10_000, 3, 5_000, 1_000)).toBe(6_000);
  });

  test('is reckoned from the session where none is echoed: the first beats of a hub that was stopped then', () => {
    expect(toldAtMs(10_000, null, 9_500, 1_000)).toBe(10_000);
    expect(toldAtMs(10_000, null, 5_000, 1_000)).toBe(6_000);
  });
});

test('a session that has just begun ends the silence, not the doubt about the RPO: it shows no figure of before', () => {
  const back = { silentMs: 6000, unheardMs: 860 };
  expect(status(back)).toMatchObject({
    state: 'catching-up',
    reason: 'agent is back, its first report is due',
    rpoSeconds: null,
    rpoAtLeastSeconds: 6,
    lagBytes: null,
  });
  expect(status(back, {}, { state: 'degraded' }).state).toBe('degraded');
  expect(status({ ...back, unheardMs: 5001 })).toMatchObject({ state: 'unknown', reason: 'agent silent' });
  expect(status({ ...back, connected: false })).toMatchObject({ state: 'unknown', reason: 'agent silent' });
  expect(status({ ...back, report: null }).state).toBe('unknown');
});

test('an agent that has left in order is said to have left, and why, in the state that an absent one has', () => {
  const gone = { connected: false, farewell: 'repagent is stopping' };
  const reason = 'the agent has left: repagent is stopping';
  expect(status(gone)).toMatchObject({ state: 'catching-up', reason });
  expect(status({ ...gone, silentMs: 9000 })).toMatchObject({ state: 'unknown', reason, rpoSeconds: null });
  expect(status(gone, { consistentNumber: null }).reason).toBe(`first-sync not finished, ${reason}`);
  expect(status({ farewell: 'repagent is stopping' }).reason).toBe('in step');
});

test('before an agent has begun the reason says so, and what the group was seeded with is told', () => {
  const empty = { line: null, volumes: [], consistentNumber: null };
  const nobody = { connected: false, report: null };
  expect(status(nobody, empty)).toMatchObject({ state: 'unprotected', reason: 'no agent has begun yet', seeds: [] });
  const seeds = [{ volume: 'disk0', sizeBytes: 4096 }];
  expect(status(nobody, { ...empty, seeds })).toMatchObject({
    state: 'unprotected',
    reason: 'seeded, no agent has begun yet',
    volumes: [],
    seeds: [{ name: 'disk0', sizeBytes: 4096 }],
  });
  expect(status({}, { ...empty, seeds }).reason).toBe('first-sync');
  expect(status(nobody, { consistentNumber: null }).reason).toBe('first-sync not finished, agent not connected');
});

test('an agent that an operator has paused makes its group degraded, for as long as it stays away', () => {
  const gone = { connected: false, farewell: PAUSED_FAREWELL };
  expect(status(gone)).toMatchObject({ state: 'degraded', reason: 'paused' });
  expect(status({ ...gone, silentMs: 3_600_000, unheardMs: 3_600_000 })).toMatchObject({
    state: 'degraded',
    reason: 'paused',
    rpoSeconds: null,
  });
  expect(status({ farewell: PAUSED_FAREWELL })).toMatchObject({ state: 'protected', reason: 'in step' });
});
