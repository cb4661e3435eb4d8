/** The agent's status as Prometheus metrics. */
import { Counter, Gauge, Registry } from 'prom-client';
import { PROTECTION_STATES, RESYNC_CAUSES, type ResyncFigures } from '@rephub/protocol';
import { type AgentStatus, type GroupStatus, type StartingStatus } from '../status/report.js';

type GroupFigure = readonly [
  name: string,
  help: string,
  kind: 'gauge' | 'counter',
  /** Null: not known now; the sample is left out. */
  value: (status: GroupStatus) => number | null,
];

const GROUP_FIGURES: readonly GroupFigure[] = [
  [
    'repagent_rpo_seconds',
    'Age of the oldest write that is not in a consistent durable point at the hub',
    'gauge',
    (status) => status.rpoSeconds,
  ],
  ['repagent_lag_bytes', 'Bytes that the hub does not have durably yet', 'gauge', (status) => status.lagBytes],
  ['repagent_dirty_bytes', 'Bytes marked as to be copied', 'gauge', (status) => status.dirtyBytes],
  ['repagent_hot_extents', 'Extents of 4 MiB that a crash would compare', 'gauge', (status) => status.hotExtents],
  [
    'repagent_window_bytes',
    'Bytes of records held until the hub has them durably',
    'gauge',
    (status) => status.windowBytes,
  ],
  ['repagent_hub_connected', '1 while records flow to the hub', 'gauge', (status) => (status.agentConnected ? 1 : 0)],
  ['repagent_clients', 'Connected NBD clients', 'gauge', (status) => status.clients.length],
  ['repagent_records_total', 'Records numbered', 'counter', ({ counters }) => counters.records],
  [
    'repagent_streamed_bytes_total',
    'Bytes of frames made for the hub',
    'counter',
    ({ counters }) => counters.streamedBytes,
  ],
  [
    'repagent_compressed_raw_bytes_total',
    'Bytes of payload that were carried compressed, before',
    'counter',
    ({ counters }) => counters.compressedRawBytes,
  ],
  [
    'repagent_compressed_bytes_total',
    'The same bytes as they were carried',
    'counter',
    ({ counters }) => counters.compressedBytes,
  ],
  ['repagent_compressing', '1 while records are compressed', 'gauge', (status) => (status.compression.active ? 1 : 0)],
  [
    'repagent_upstream_unflushed_bytes',
    'Bytes written upstream since the last flush, kept to be written again',
    'gauge',
    ({ upstream }) => upstream.reduce((sum, { unflushedBytes }) => sum + unflushedBytes, 0),
  ],
  [
    'repagent_upstream_connections',
    'Connections to upstream',
    'gauge',
    ({ upstream }) => upstream.reduce((sum, { connections }) => sum + connections, 0),
  ],
  [
    'repagent_upstream_reconnects_total',
    'Reconnects to upstream',
    'counter',
    ({ upstream }) => upstream.reduce((sum, { reconnects }) => sum + reconnects, 0),
  ],
  [
    'repagent_copied_bytes_total',
    'Bytes of upstream content sent by resyncs',
    'counter',
    ({ counters }) => counters.copiedBytes,
  ],
  [
    'repagent_pulled_ahead_bytes_total',
    'Bytes only marked because they could not be streamed',
    'counter',
    ({ counters }) => counters.pulledAheadBytes,
  ],
  [
    'repagent_client_faults_total',
    'Client connections ended because of what the client did',
    'counter',
    ({ counters }) => counters.clientFaults,
  ],
  [
    'repagent_failed_requests_total',
    'Requests of guests that upstream failed, or that waited for it in vain',
    'counter',
    ({ counters }) => counters.failedRequests,
  ],
  [
    'repagent_verified_bytes_total',
    'Bytes compared with the hub by verifications',
    'counter',
    ({ counters }) => counters.verifiedBytes,
  ],
  [
    'repagent_verify_differs_bytes_total',
    'Bytes that verifications found to differ at the hub',
    'counter',
    ({ counters }) => counters.verifyDiffersBytes,
  ],
  [
    'repagent_volumes_grown_total',
    'Volumes that became larger while the agent ran',
    'counter',
    ({ counters }) => counters.volumesGrown,
  ],
  [
    'repagent_resync_bytes_per_second',
    'Bytes that a resync gets done lately',
    'gauge',
    ({ resync }) => resync?.bytesPerSecond ?? null,
  ],
  [
    'repagent_background_speed_ratio',
    'What is read in the background, beside guests, of what is when they are idle',
    'gauge',
    ({ courtesy }) => courtesy.speed,
  ],
  [
    'repagent_last_resync_sent_bytes',
    'Bytes that the last resync sent',
    'gauge',
    ({ lastResync }) => lastResync?.bytesSent ?? null,
  ],
  [
    'repagent_last_resync_compared_bytes',
    'Bytes that the last resync compared by checksum',
    'gauge',
    ({ lastResync }) => lastResync?.bytesCompared ?? null,
  ],
];

const RESYNC_FIGURES: readonly (readonly [name: string, help: string, figure: keyof ResyncFigures])[] = [
  ['repagent_resync_sent_bytes_total', 'Bytes of content that resyncs sent, by what they were for', 'sentBytes'],
  [
    'repagent_resync_compared_bytes_total',
    'Bytes that resyncs compared by checksum, by what they were for',
    'comparedBytes',
  ],
  ['repagent_resyncs_total', 'Resyncs after which nothing was dirty, by what they were for', 'ended'],
];

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
  for (const name of PROTECTION_STATES) state.set({ state: name }, status.state === name ? 1 : 0);
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
  const registers = [registry];
  for (const [name, help, kind, value] of GROUP_FIGURES) {
    const figure = value(status);
    if (figure === null) continue;
    if (kind === 'gauge') new Gauge({ name, help, registers }).set(figure);
    else new Counter({ name, help, registers }).inc(figure);
  }
  for (const [name, help, figure] of RESYNC_FIGURES) {
    const labelled = new Counter({ name, help, labelNames: ['cause'], registers });
    // All of them from the start: a counter that comes to be with its first value has no increase.
    for (const cause of RESYNC_CAUSES) labelled.inc({ cause }, status.resyncsByCause[cause]?.[figure] ?? 0);
  }
  addLatency(registry, status);
}

function addLatency(registry: Registry, { courtesy }: GroupStatus): void {
  const latency = new Gauge({
    name: 'repagent_guest_latency_p99_seconds',
    help: 'What 99 of 100 requests of guests took at most upstream, alone and beside what is read in the background',
    labelNames: ['volume', 'kind', 'beside'],
    registers: [registry],
  });
  for (const { volume, kind, aloneP99Ms, besideP99Ms } of courtesy.latency) {
    if (aloneP99Ms !== null) latency.set({ volume, kind, beside: 'nothing' }, aloneP99Ms / 1000);
    if (besideP99Ms !== null) latency.set({ volume, kind, beside: 'reads' }, besideP99Ms / 1000);
  }
}
