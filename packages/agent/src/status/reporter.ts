/**
 * What is said of a running group: its status for people and scripts, and the report that the hub gets with every beat.
 * Looks at the parts of the group, and remembers what only they who were told can know: how the last resync ended.
 *
 * Must not know: how any of it is done.
 */
import { type Tracker } from '@rephub/bitmap';
import { type NbdServer } from '@rephub/nbd';
import { type Clock, type Logger } from '@rephub/platform';
import { type AgentReport, figuresOf, RESYNC_CAUSES, type ResyncsByCause } from '@rephub/protocol';
import { type Acknowledgement } from '../mirror/acknowledgement.js';
import { type AgentConfig } from '../config.js';
import { type CopyProgress } from '../resync/copier.js';
import { type Growth } from '../growth.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type HubLink } from '../link/hub-link.js';
import { type Mirror } from '../mirror/mirror.js';
import { type GroupStatus, reportOf } from './report.js';
import { type Resyncing } from '../resync/resyncing.js';
import { describeState } from './status.js';
import { type Upstream } from '../upstream/upstream.js';

export interface ReporterParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly acknowledgement: Acknowledgement;
  readonly upstreams: readonly Upstream[];
  readonly volumes: readonly GuestVolume[];
  /** Guests' writes wait for the hub. */
  readonly isFrozen: () => boolean;
  readonly resyncing: Pick<Resyncing, 'copier' | 'cap' | 'courtesy' | 'findings' | 'sample' | 'verifier'>;
  readonly growth: Growth;
  /** Null without a hub. */
  readonly link: HubLink | null;
  /** Grows while the group starts. */
  readonly servers: readonly NbdServer[];
}

export class Reporter {
  /** Why mirroring has stopped for good; null while it has not. */
  stoppedReason: string | null = null;
  /** Ranges that upstream could not read. */
  unreadableRanges = 0;
  /** Client connections ended for what the client did. */
  clientFaults = 0;
  readonly #parts: ReporterParts;
  readonly #resyncs: ResyncsByCause = {};
  #lastResync: AgentReport['lastResync'] = null;
  #endedResync: AgentReport['lastResync'] = null;

  constructor(parts: ReporterParts) {
    this.#parts = parts;
  }

  /** Nothing is dirty any more; the span's end is on its way. */
  resyncEnded(progress: CopyProgress): void {
    const { clock, log } = this.#parts;
    count(this.#resyncs, progress, 1);
    this.#endedResync = {
      cause: progress.cause,
      bytesSent: progress.bytesSent,
      bytesCompared: progress.bytesCompared,
      finishedAt: new Date(clock.unixMs()).toISOString(),
    };
    log.info('resync-ended', {
      cause: progress.cause,
      bytesSent: progress.bytesSent,
      bytesCompared: progress.bytesCompared,
      bytesCovered: progress.bytesDone,
      tookMs: Math.round(clock.monotonicMs() - progress.startedMs),
    });
  }

  /** The span's end is durable at the hub: only now the resync counts. */
  spanDurable(): void {
    this.#lastResync = this.#endedResync ?? this.#lastResync;
  }

  status(): GroupStatus {
    const { clock, config, tracker, mirror, upstreams, volumes, servers, link } = this.#parts;
    const { cap, courtesy, verifier } = this.#parts.resyncing;
    return {
      name: config.group,
      starting: false,
      ...reportOf(this.report(), config.hubs.length > 0 && link?.status.replaced !== true),
      seq: mirror.lastNumber,
      durableSeq: mirror.durableNumber,
      generation: tracker.identity.line.id,
      agentConnected: mirror.linked,
      failover: null,
      divergence: link?.status.divergence ?? null,
      tests: [],
      volumes: volumes.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
      upstream: upstreams.map((upstream, index) => ({
        volume: config.volumes[index]?.name ?? '',
        uri: config.volumes[index]?.upstream ?? '',
        ...upstream.status,
      })),
      maxBytesPerSecond: cap.bytesPerSecond,
      maxRateSchedule: cap.schedule,
      courtesy: courtesy.status(clock.monotonicMs()),
      hub: link?.status ?? null,
      clients: servers.flatMap((server) =>
        server.clients().map(({ peer, exportName, requestsInFlight, requestsDone }) => ({
          peer,
          exportName,
          requestsInFlight,
          requestsDone,
        })),
      ),
      dirtyBytes: tracker.dirtyBytes,
      hotExtents: tracker.hotExtents,
      windowBytes: mirror.window.bytes,
      compression: mirror.packer.status,
      counters: {
        ...mirror.counters,
        ...mirror.packer.counters,
        ...verifier.counters,
        clientFaults: this.clientFaults,
        volumesGrown: this.#parts.growth.count,
        failedRequests: upstreams.reduce((sum, { failedRequests }) => sum + failedRequests, 0),
      },
      resyncsByCause: this.#resyncsByCause(),
      tracking: {
        found: tracker.found,
        reason: tracker.foundReason,
        session: tracker.identity.session,
      },
    };
  }

  #resyncsByCause(): ResyncsByCause {
    const counted: ResyncsByCause = {};
    for (const cause of RESYNC_CAUSES) {
      const figures = this.#resyncs[cause];
      if (figures !== undefined) counted[cause] = { ...figures };
    }
    const { progress } = this.#parts.resyncing.copier;
    if (progress !== null) count(counted, progress, 0);
    return counted;
  }

  report(): AgentReport {
    const { acknowledgement, clock, mirror, tracker } = this.#parts;
    const { copier, findings, sample, verifier } = this.#parts.resyncing;
    const { progress } = copier;
    const { state, reason } = this.#describe(progress);
    const [verify, startSample] = [verifier.report, sample.report];
    const untold = findings.untold.filter(({ id }) => id !== verify?.id && id !== startSample?.id);
    return {
      state,
      reason,
      mode: acknowledgement.mode,
      effectiveMode: acknowledgement.effectiveMode,
      rpoMs: mirror.exposedMs(),
      lagBytes: mirror.window.bytes + tracker.dirtyBytes,
      dirtyBytes: tracker.dirtyBytes,
      lastNumber: mirror.lastNumber,
      resync: progress === null ? null : progressOf(progress, clock.monotonicMs()),
      lastResync: this.#lastResync,
      verify,
      startSample,
      ...(untold.length === 0 ? {} : { untold }),
    };
  }

  #describe(progress: Readonly<CopyProgress> | null): ReturnType<typeof describeState> {
    const { mirror, upstreams } = this.#parts;
    const link = this.#parts.link?.status ?? null;
    return describeState({
      hasHub: link !== null,
      paused: link?.paused ?? false,
      stream: mirror.spanEnding ? 'span' : mirror.state,
      linked: mirror.linked,
      linkReason: link?.reason ?? null,
      refused: link?.refused ?? false,
      replaced: link?.replaced ?? false,
      everConsistent: link?.everConsistent ?? false,
      unreadableRanges: this.unreadableRanges,
      upstreamReason:
        upstreams.map(({ status }) => status).find(({ up, state }) => !up || state === 'shrunk')?.reason ?? null,
      stoppedReason: this.stoppedReason,
      resyncCause: progress?.cause ?? (mirror.spanEnding ? 'its end is not durable yet' : null),
      stalled: link?.stalled ?? null,
      frozen: this.#parts.isFrozen(),
    });
  }
}

function count(counted: ResyncsByCause, progress: Readonly<CopyProgress>, ended: number): void {
  const figures = figuresOf(counted, progress.cause);
  figures.sentBytes += progress.bytesSent;
  figures.comparedBytes += progress.bytesCompared;
  figures.ended += ended;
}

function progressOf(progress: Readonly<CopyProgress>, nowMs: number): NonNullable<AgentReport['resync']> {
  const { cause, bytesDone, bytesCompared, bytesSent, holeBytesDone } = progress;
  const bytesTotal = Math.max(progress.bytesTotal, bytesDone);
  // Holes cost nothing: how fast it is, and how long it takes, is of the rest.
  const rate = progress.meter.bytesPerSecond(nowMs, bytesDone - holeBytesDone);
  const holes = progress.holeBytesTotal === null ? null : Math.max(progress.holeBytesTotal, holeBytesDone);
  const leftBytes = holes === null ? null : Math.max(0, bytesTotal - holes - (bytesDone - holeBytesDone));
  return {
    cause,
    bytesDone,
    bytesTotal,
    bytesCompared,
    bytesSent,
    ...(rate === null ? {} : { bytesPerSecond: Math.round(rate) }),
    holeBytesDone,
    ...(holes === null ? {} : { holeBytesTotal: holes }),
    etaSeconds: leftBytes === null || rate === null || rate <= 0 ? null : leftBytes / rate,
  };
}
