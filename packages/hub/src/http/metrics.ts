/**
 * The hub's figures for Prometheus. Nothing is counted here: at each scrape the plain counters and the
 * groups' states are read.
 */
import { Counter, Gauge, Registry } from 'prom-client';
import { PROTECTION_STATES, RESYNC_CAUSES, type ResyncFigures } from '@rephub/protocol';
import type { GroupStatus } from '../group/group-status.js';
import type { GroupCounters, HubCounters, LabelledCounter } from '../counters.js';

/** What there is to measure. */
export interface Measured {
  readonly counters: HubCounters;
  readonly agentConnections: number;
  readonly groups: readonly { readonly name: string; readonly counters: GroupCounters; status(): GroupStatus }[];
  nbdClients(): number;
}

type GroupFigure = readonly [
  name: string,
  help: string,
  kind: 'gauge' | 'counter',
  /** Null: not known now; the sample is left out. */
  value: (status: GroupStatus, counters: GroupCounters) => number | null,
];

const GROUP_FIGURES: readonly GroupFigure[] = [
  [
    'rephub_group_rpo_seconds',
    'Age of the oldest acknowledged write not in a consistent durable point',
    'gauge',
    (status) => status.rpoSeconds,
  ],
  [
    'rephub_group_rpo_at_least_seconds',
    'Lower bound of the RPO, known or not',
    'gauge',
    (status) => status.rpoAtLeastSeconds,
  ],
  [
    'rephub_group_lag_bytes',
    'Bytes acknowledged to the guest and not durable here',
    'gauge',
    (status) => status.lagBytes,
  ],
  ['rephub_group_seq', 'Number of the last record', 'gauge', (status) => status.seq],
  ['rephub_group_durable_seq', 'Number up to which all records are durable', 'gauge', (status) => status.durableSeq],
  [
    'rephub_group_applied_seq',
    'Number up to which the base images hold everything',
    'gauge',
    (status) => status.appliedSeq,
  ],
  [
    'rephub_group_agent_connected',
    '1 while the agent is in session',
    'gauge',
    (status) => (status.agentConnected ? 1 : 0),
  ],
  ['rephub_group_open_tests', 'Failover tests that are open', 'gauge', (status) => status.tests.length],
  ['rephub_group_journal_bytes', 'Bytes of journal on disk', 'gauge', (status) => status.journalBytes],
  ['rephub_group_room_bytes', 'Bytes free on the disk', 'gauge', (status) => status.room?.freeBytes ?? null],
  [
    'rephub_group_resync_short_bytes',
    'Bytes that a refused resync lacks beside the last good point',
    'gauge',
    (status) => status.resyncShort?.shortBytes ?? 0,
  ],
  ['rephub_group_index_bytes', 'Bytes of index in memory', 'gauge', (status) => status.indexBytes],
  [
    'rephub_group_verify_differs_bytes',
    'Bytes that the last verification found to differ',
    'gauge',
    (status) => status.verify?.bytesDiffer ?? null,
  ],
  [
    'rephub_group_verify_unknown_bytes',
    'Bytes of which the last verification could not tell',
    'gauge',
    (status) => (status.verify === null || status.verify.finishedAt === null ? null : status.verify.bytesUnknown),
  ],
  [
    'rephub_group_resync_bytes_per_second',
    'Bytes that a resync gets done lately',
    'gauge',
    (status) => status.resync?.bytesPerSecond ?? null,
  ],
  [
    'rephub_group_last_resync_sent_bytes',
    'Bytes that the last resync sent',
    'gauge',
    (status) => status.lastResync?.bytesSent ?? null,
  ],
  [
    'rephub_group_last_resync_compared_bytes',
    'Bytes that the last resync compared by checksum',
    'gauge',
    (status) => status.lastResync?.bytesCompared ?? null,
  ],
  [
    'rephub_group_sessions_total',
    'Sessions that got beyond the handshake',
    'counter',
    (_, counters) => counters.sessions,
  ],
  ['rephub_group_records_total', 'Records received', 'counter', (_, counters) => counters.records],
  ['rephub_group_record_bytes_total', 'Payload bytes received', 'counter', (_, counters) => counters.recordBytes],
  [
    'rephub_group_record_raw_bytes_total',
    'Payload bytes received, decompressed',
    'counter',
    (_, counters) => counters.rawBytes,
  ],
  [
    'rephub_group_differences_bytes_total',
    'Bytes that agents found to differ, by verifications and samples',
    'counter',
    (_, counters) => counters.differsBytes,
  ],
  ['rephub_group_acks_total', 'Acknowledgements sent', 'counter', (_, counters) => counters.acks],
  ['rephub_group_remote_reads_total', 'Regions asked from the agent', 'counter', (_, counters) => counters.remoteReads],
  ['rephub_group_tests_opened_total', 'Failover tests opened', 'counter', (_, counters) => counters.testsOpened],
];

/** A registry that reads `hub` at each scrape. */
export function hubMetrics(hub: Measured): Registry {
  const registry = new Registry();
  const registers = [registry];
  for (const figure of GROUP_FIGURES) ofGroups(registers, hub, figure);
  states(registers, hub);
  resyncsByCause(
    registers,
    hub,
    'rephub_group_resync_bytes_total',
    'Bytes of content that resyncs brought',
    'sentBytes',
  );
  resyncsByCause(registers, hub, 'rephub_group_resyncs_total', 'Resyncs that have ended', 'ended');
  labelled(
    registers,
    'rephub_agent_session_ends_total',
    'Agent connections that ended, by reason',
    hub.counters.sessionEnds,
  );
  labelled(
    registers,
    'rephub_nbd_faults_total',
    'NBD connections ended for what the client did',
    hub.counters.nbdFaults,
  );
  const plain: readonly (readonly [string, string, () => number])[] = [
    ['rephub_agent_connections', 'Connections on the agents’ listeners', () => hub.agentConnections],
    ['rephub_nbd_clients', 'NBD connections', () => hub.nbdClients()],
  ];
  for (const [name, help, value] of plain) {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  }
  return registry;
}

function ofGroups(registers: Registry[], hub: Measured, [name, help, kind, value]: GroupFigure): void {
  const set = (sample: (group: string, figure: number) => void): void => {
    for (const group of hub.groups) {
      const figure = value(group.status(), group.counters);
      if (figure !== null) sample(group.name, figure);
    }
  };
  const labels = { name, help, labelNames: ['group'], registers };
  if (kind === 'gauge') {
    new Gauge({
      ...labels,
      collect() {
        this.reset();
        set((group, figure) => this.set({ group }, figure));
      },
    });
  } else {
    new Counter({
      ...labels,
      collect() {
        this.reset();
        set((group, figure) => this.inc({ group }, figure));
      },
    });
  }
}

function states(registers: Registry[], hub: Measured): void {
  new Gauge({
    name: 'rephub_group_state',
    help: '1 for the state that the group is in',
    labelNames: ['group', 'state'],
    registers,
    collect() {
      this.reset();
      for (const group of hub.groups) {
        const now = group.status().state;
        for (const state of PROTECTION_STATES) this.set({ group: group.name, state }, state === now ? 1 : 0);
      }
    },
  });
}

function resyncsByCause(
  registers: Registry[],
  hub: Measured,
  name: string,
  help: string,
  figure: keyof ResyncFigures,
): void {
  new Counter({
    name,
    help: `${help}, by what they were for`,
    labelNames: ['group', 'cause'],
    registers,
    collect() {
      this.reset();
      for (const { name: group, counters } of hub.groups) {
        // All of them from the start: a counter that comes to be with its first value has no increase.
        for (const cause of RESYNC_CAUSES) this.inc({ group, cause }, counters.resyncs[cause]?.[figure] ?? 0);
      }
    },
  });
}

function labelled(registers: Registry[], name: string, help: string, counter: LabelledCounter): void {
  new Counter({
    name,
    help,
    labelNames: ['code'],
    registers,
    collect() {
      this.reset();
      for (const [code, count] of counter.entries) this.inc({ code }, count);
    },
  });
}
