/** Damage that was named and brought again comes back, rightly, where what has brought it again does not last (TORN). */
import { expect, it } from 'vitest';
import { runScript } from './run.js';
import { type Script } from './script.js';

/**
 * A start that could not read a segment names it as damaged; the span that brings it again is not durable, because the journal
 * fails, when power goes: the next start names it again.
 */
const NOT_DURABLE_AGAIN: Script = {
  setup: {
    seed: 146899981,
    volumes: [
      {
        name: 'root',
        blocks: 384,
        largestBlocks: 1024,
        upstream: 'nbd',
      },
      {
        name: 'data',
        blocks: 1280,
        largestBlocks: 1920,
        upstream: 'nbd',
      },
    ],
    presetBlocks: 40,
    granularityBytes: 16384,
    windowBytes: 65536,
    hotExtents: 16,
    onCongestion: 'pull-ahead',
    maxBytesPerSecond: null,
    retentionMs: 0,
    segmentBytes: 67108864,
    linkLatencyMs: 4,
    jitterMs: 0,
    fua: false,
    fastZero: true,
    allocation: false,
    lateVolume: false,
    mode: 'async',
    durability: 'host',
    onDisconnect: 'continue',
    rareFlushes: false,
    syncMs: 150,
  },
  lengthMs: 19691,
  steps: [
    {
      atMs: 9271,
      kind: 'hub-writes-fail',
      seed: 1043200842,
    },
    {
      atMs: 10576,
      kind: 'burst',
      seed: 1793498447,
    },
    {
      atMs: 14369,
      kind: 'hub-reads-fail',
      seed: 1309338893,
    },
    {
      atMs: 19661,
      kind: 'power-both',
      seed: 1855289612,
    },
  ],
};

/**
 * A hub that comes from a backup names its base images as changed; the end of the span that brings them again rots before it is
 * known to be durable, and is cut as a torn tail: the next start names them again.
 */
const TORN_AGAIN: Script = {
  setup: {
    seed: 795398050,
    volumes: [
      {
        name: 'root',
        blocks: 384,
        largestBlocks: 1024,
        upstream: 'nbd',
      },
      {
        name: 'data',
        blocks: 1280,
        largestBlocks: 1920,
        upstream: 'nbd',
      },
    ],
    presetBlocks: 200,
    granularityBytes: 65536,
    windowBytes: 65536,
    hotExtents: 16,
    onCongestion: 'pull-ahead',
    maxBytesPerSecond: null,
    retentionMs: 2000,
    segmentBytes: 4194304,
    linkLatencyMs: 0.1,
    jitterMs: 0,
    fua: true,
    fastZero: false,
    allocation: true,
    lateVolume: false,
    mode: 'semi-sync',
    durability: 'host',
    onDisconnect: 'continue',
    rareFlushes: false,
    syncMs: 0,
    hubSyncMs: 0,
  },
  lengthMs: 47298,
  steps: [
    {
      atMs: 7685,
      kind: 'burst',
      seed: 1481348292,
    },
    {
      atMs: 8000,
      kind: 'backup-hub',
      seed: 1443036443,
    },
    {
      atMs: 35550,
      kind: 'restore-hub',
      seed: 142284892,
    },
    {
      atMs: 42430,
      kind: 'hub-reads-fail',
      seed: 632157442,
    },
    {
      atMs: 47248,
      kind: 'rot-hub',
      seed: 1492553215,
    },
  ],
};

it.each([
  ['was not durable', NOT_DURABLE_AGAIN],
  ['rotted before it was known to be durable', TORN_AGAIN],
])('is named again when what had brought it again %s', { timeout: 120_000 }, async (_, script) => {
  const { violation, error, coverage } = await runScript(script);
  expect(error).toBeNull();
  expect(violation?.message ?? null).toBeNull();
  expect(coverage.happenings['corruption-named']).toBeGreaterThanOrEqual(1);
});
