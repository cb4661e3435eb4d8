import { RESYNC_CAUSES } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { type GroupStatus } from '../status/report.js';
import { metricsText } from './metrics.js';

const STATUS: GroupStatus = {
  starting: false,
  ...{ name: 'vm1', state: 'protected', reason: '', mode: 'async', effectiveMode: 'async', rpoSeconds: 0, lagBytes: 0 },
  ...{ seq: 1, durableSeq: 1, generation: '', agentConnected: true, lastResync: null, verify: null, startSample: null },
  ...{ resync: null, failover: null, divergence: null, tests: [], volumes: [], upstream: [], maxBytesPerSecond: null },
  ...{ maxRateSchedule: null, hub: null, clients: [], dirtyBytes: 0, hotExtents: 0, windowBytes: 0 },
  counters: {
    ...{ records: 1, streamedBytes: 2, sentBytes: 3, pulledAheadBytes: 4, copiedBytes: 5 },
    ...{ compressedRawBytes: 6, compressedBytes: 7, verifiedBytes: 8, verifyDiffersBytes: 9 },
    ...{ clientFaults: 10, volumesGrown: 11, failedRequests: 12 },
  },
  compression: { wish: 'off', codec: null, active: false },
  resyncsByCause: { full: { sentBytes: 7, comparedBytes: 0, ended: 1 } },
  tracking: { found: 'clean', reason: '', session: 1 },
  courtesy: { yielding: false, speed: 1, latency: [] },
};

test('metrics: what resyncs sent is told by cause, of every cause from the start', async () => {
  const text = await metricsText(STATUS);
  expect(text).toContain('repagent_resync_sent_bytes_total{cause="full",group="vm1"} 7');
  expect(text).toContain('repagent_resyncs_total{cause="full",group="vm1"} 1');
  for (const cause of RESYNC_CAUSES.filter((one) => one !== 'full')) {
    expect(text).toContain(`repagent_resync_sent_bytes_total{cause="${cause}",group="vm1"} 0`);
  }
});

test('metrics: counters have the values of the status', async () => {
  const text = await metricsText(STATUS);
  for (const [name, value] of [
    ['records_total', 1],
    ['streamed_bytes_total', 2],
    ['pulled_ahead_bytes_total', 4],
    ['copied_bytes_total', 5],
    ['compressed_raw_bytes_total', 6],
    ['compressed_bytes_total', 7],
    ['verified_bytes_total', 8],
    ['verify_differs_bytes_total', 9],
    ['client_faults_total', 10],
    ['volumes_grown_total', 11],
    ['failed_requests_total', 12],
  ] as const) {
    expect(text).toContain(`\nrepagent_${name}{group="vm1"} ${value}\n`);
  }
});

test('metrics: what is not known has no sample', async () => {
  expect(await metricsText(STATUS)).toContain('\nrepagent_rpo_seconds{group="vm1"} 0\n');
  const unknown = await metricsText({ ...STATUS, rpoSeconds: null });
  expect(unknown).not.toContain('repagent_rpo_seconds');
  expect(unknown).not.toContain('repagent_last_resync_sent_bytes');
});
