/** The agent's status as Prometheus metrics. */
import { Counter, Gauge, Registry } from 'prom-client';
import { RESYNC_CAUSES, type ResyncFigures } from '@rephub/protocol';
import { type AgentStatus, type GroupStatus, type StartingStatus } from '../report.js';

const STATES = ['protected', 'catching-up', 'degraded', 'unprotected', 'unknown'] as const;

/** The text exposition of one moment. */
export async function metricsText(status: AgentStatus): Promise<string> {
  const registry = new Registry();
  registry.setDefaultLabels({ group: status.name });
  const state = new Gauge({
    name: 'repagent_state',
    help: 'State of the group: 1 for the one that holds',
    labelNames: ['state'],
    registers: [registry],
  });
  for (const name of STATES) state.set({ state: name }, status.state === name ? 1 : 0);
  new Gauge({
    name: 'repagent_upstream_up',
    help: '1 while every upstream is connected',
    registers: [registry],
  }).set(status.upstream.every(({ up }) => up) ? 1 : 0);
  if (status.starting) addStart(registry, status);
  else addGroup(registry, status);
  return await registry.metrics();
}

/** While the agent waits for its upstreams; nothing else is known yet. */
function addStart(registry: Registry, status: StartingStatus): void {
  const [labelNames, registers] = [['volume'], [registry]];
  const awaited = new Gauge({
    name: 'repagent_upstream_awaited_seconds',
    help: 'For how long the start has waited for this upstream; 0: it is there, or was not looked for yet',
    ...{ labelNames, registers },
  });
  const tries = new Counter({
    name: 'repagent_upstream_awaited_tries_total',
    help: 'How often the start has tried to open this upstream',
    ...{ labelNames, registers },
  });
  for (const upstream of status.upstream) {
    awaited.set({ volume: upstream.volume }, upstream.awaitedSeconds);
    tries.inc({ volume: upstream.volume }, upstream.tries);
  }
}

function addGroup(registry: Registry, status: GroupStatus): void {
  const gauge = (name: string, help: string, value: number | null): void => {
    if (value !== null) new Gauge({ name: `repagent_${name}`, help, registers: [registry] }).set(value);
  };
  const counter = (name: string, help: string, value: number): void => {
    new Counter({ name: `repagent_${name}`, help, registers: [registry] }).inc(value);
  };
  const byCause = (name: string, help: string, figure: keyof ResyncFigures): void => {
    const labelled = new Counter({
      name: `repagent_${name}`,
      help,
      labelNames: ['cause'],
      registers: [registry],
    });
    // All of them from the start: a counter that comes to be with its first value has no increase.
    for (const cause of RESYNC_CAUSES) labelled.inc({ cause }, status.resyncsByCause[cause]?.[figure] ?? 0);
  };
  gauge(
    'rpo_seconds',
    'Age of the oldest write that is not in a consistent durable point at the hub',
    status.rpoSeconds,
  );
  gauge('lag_bytes', 'Bytes that the hub does not have durably yet', status.lagBytes);
  gauge('dirty_bytes', 'Bytes marked as to be copied', status.dirtyBytes);
  gauge('hot_extents', 'Extents of 4 MiB that a crash would compare', status.hotExtents);
  gauge('window_bytes', 'Bytes of records held until the hub has them durably', status.windowBytes);
  gauge('hub_connected', '1 while records flow to the hub', status.agentConnected ? 1 : 0);
  gauge('clients', 'Connected NBD clients', status.clients.length);
  counter('records_total', 'Records numbered', status.counters['records'] ?? 0);
  counter('streamed_bytes_total', 'Bytes of frames made for the hub', status.counters['streamedBytes'] ?? 0);
  counter(
    'compressed_raw_bytes_total',
    'Bytes of payload that were carried compressed, before',
    status.counters['compressedRawBytes'] ?? 0,
  );
  counter('compressed_bytes_total', 'The same bytes as they were carried', status.counters['compressedBytes'] ?? 0);
  gauge('compressing', '1 while records are compressed', status.compression.active ? 1 : 0);
  gauge(
    'upstream_unflushed_bytes',
    'Bytes written upstream since the last flush, kept to be written again',
    status.upstream.reduce((sum, { unflushedBytes }) => sum + unflushedBytes, 0),
  );
  gauge(
    'upstream_connections',
    'Connections to upstream',
    status.upstream.reduce((sum, { connections }) => sum + connections, 0),
  );
  counter('copied_bytes_total', 'Bytes of upstream content sent by resyncs', status.counters['copiedBytes'] ?? 0);
  counter(
    'pulled_ahead_bytes_total',
    'Bytes only marked because they could not be streamed',
    status.counters['pulledAheadBytes'] ?? 0,
  );
  counter(
    'client_faults_total',
    'Client connections ended because of what the client did',
    status.counters['clientFaults'] ?? 0,
  );
  counter(
    'failed_requests_total',
    'Requests of guests that upstream failed, or that waited for it in vain',
    status.counters['failedRequests'] ?? 0,
  );
  counter(
    'verified_bytes_total',
    'Bytes compared with the hub by verifications',
    status.counters['verifiedBytes'] ?? 0,
  );
  counter(
    'verify_differs_bytes_total',
    'Bytes that verifications found to differ at the hub',
    status.counters['verifyDiffersBytes'] ?? 0,
  );
  counter(
    'volumes_grown_total',
    'Volumes that became larger while the agent ran',
    status.counters['volumesGrown'] ?? 0,
  );
  gauge(
    'resync_bytes_per_second',
    'Bytes that a resync gets done lately',
    status.resync === null ? null : (status.resync.bytesPerSecond ?? null),
  );
  gauge(
    'background_speed_ratio',
    'What is read in the background, beside guests, of what is when they are idle',
    status.courtesy.speed,
  );
  const latency = new Gauge({
    name: 'repagent_guest_latency_p99_seconds',
    help: 'What 99 of 100 requests of guests took at most upstream, alone and beside what is read in the background',
    labelNames: ['volume', 'kind', 'beside'],
    registers: [registry],
  });
  for (const { volume, kind, aloneP99Ms, besideP99Ms } of status.courtesy.latency) {
    if (aloneP99Ms !== null) latency.set({ volume, kind, beside: 'nothing' }, aloneP99Ms / 1000);
    if (besideP99Ms !== null) latency.set({ volume, kind, beside: 'reads' }, besideP99Ms / 1000);
  }
  gauge(
    'last_resync_sent_bytes',
    'Bytes that the last resync sent',
    status.lastResync === null ? null : status.lastResync.bytesSent,
  );
  gauge(
    'last_resync_compared_bytes',
    'Bytes that the last resync compared by checksum',
    status.lastResync === null ? null : status.lastResync.bytesCompared,
  );
  byCause('resync_sent_bytes_total', 'Bytes of content that resyncs sent, by what they were for', 'sentBytes');
  byCause(
    'resync_compared_bytes_total',
    'Bytes that resyncs compared by checksum, by what they were for',
    'comparedBytes',
  );
  byCause('resyncs_total', 'Resyncs after which nothing was dirty, by what they were for', 'ended');
  counter(
    'upstream_reconnects_total',
    'Reconnects to upstream',
    status.upstream.reduce((sum, { reconnects }) => sum + reconnects, 0),
  );
}
