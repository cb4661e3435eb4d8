import { RESYNC_CAUSES } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { type GroupStatus } from '../report.js';
import { metricsText } from './metrics.js';

const STATUS: GroupStatus = {
  starting: false,
  ...{ name: 'vm1', state: 'protected', reason: '', mode: 'async', effectiveMode: 'async', rpoSeconds: 0, lagBytes: 0 },
  ...{ seq: 1, durableSeq: 1, generation: '', agentConnected: true, lastResync: null, verify: null, startSample: null },
  ...{ resync: null, failover: null, divergence: null, tests: [], volumes: [], upstream: [], maxBytesPerSecond: null },
  ...{ maxRateSchedule: null, hub: null, clients: [], dirtyBytes: 0, hotExtents: 0, windowBytes: 0, counters: {} },
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
