/**
 * A start that could not read a segment names it as damaged; the span that brings it again is not durable, because the journal
 * fails, when power goes: the next start names it again, rightly (TORN).
 */
import { expect, it } from 'vitest';
import { runScript } from './run.js';
import { type Script } from './script.js';

const SCRIPT: Script = {
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

it('damage is named until what brings it again is durable', { timeout: 120_000 }, async () => {
  const { violation, error } = await runScript(SCRIPT);
  expect(error).toBeNull();
  expect(violation?.message ?? null).toBeNull();
});
