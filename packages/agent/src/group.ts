/**
 * One protected group, wired: upstreams, tracker, mirror, volumes, copier, link and NBD listeners, in the
 * order in which they must start and stop. No logic of its own beyond that order and the status.
 */
import { Tracker } from '@rephub/bitmap';
import { type BlockDevice, fixedExports, NbdServer, parseListenUri } from '@rephub/nbd';
import {
  type Address,
  asError,
  ConfigFault,
  formatAddress,
  type Listener,
  type Logger,
  type Platform,
  sleep,
  type Timer,
} from '@rephub/platform';
import { type AgentReport, uuidBytes } from '@rephub/protocol';
import { CongestionGate } from './congestion-gate.js';
import { type AgentConfig } from './config.js';
import { Copier, type CopyProgress } from './copier.js';
import { FlushProof } from './flush-proof.js';
import { Flusher } from './flusher.js';
import { emulateFua } from './fua-emulation.js';
import { GuestVolume } from './guest-volume.js';
import { HubLink } from './hub-link.js';
import { Marks } from './marks.js';
import { Mirror } from './mirror.js';
import { checkUpstream, upstreamOpener } from './open-upstream.js';
import { reportOf, type GroupStatus } from './report.js';
import { describeState } from './status.js';
import { Upstream } from './upstream.js';

const IDLE_FLUSH_MS = 5_000;
/** SIGTERM must be over within 10 s: what each step may take of it. */
const STOP_REQUESTS_MS = 2_500;
const STOP_COPIER_MS = 1_000;
const STOP_FLUSH_MS = 2_500;
const STOP_DURABLE_MS = 2_000;
const STOP_POLL_MS = 10;

export interface LastResync {
  readonly cause: string;
  readonly bytesSent: number;
  readonly bytesCompared: number;
  readonly finishedAt: string;
}

export class AgentGroup {
  readonly config: AgentConfig;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #tracker: Tracker;
  readonly #proof: FlushProof;
  readonly #mirror: Mirror;
  readonly #upstreams: readonly Upstream[];
  readonly #volumes: readonly GuestVolume[];
  readonly #copier: Copier;
  readonly #flusher: Flusher;
  readonly #link: HubLink | null;
  readonly #gate: CongestionGate | null;
  readonly #servers: NbdServer[] = [];
  readonly #listeners: Listener[] = [];
  #timer: Timer | null = null;
  #lastResync: LastResync | null = null;
  #endedResync: LastResync | null = null;
  #unreadable = 0;
  #stoppedReason: string | null = null;
  #faults = 0;

  /** Opens everything but the listeners. Throws the ConfigFault of what is wrong. */
  static async open(platform: Platform, config: AgentConfig, log: Logger): Promise<AgentGroup> {
    const volumesByIndex: { current: readonly GuestVolume[] } = { current: [] };
    const upstreams: Upstream[] = [];
    try {
      for (const [index, volume] of config.volumes.entries()) {
        const upstream = await Upstream.open({
          name: volume.name,
          clock: platform.clock,
          log,
          policy: { retries: config.retries, delayMs: config.retryDelayMs, exponential: config.retryExponential },
          open: upstreamOpener(platform, volume.upstream, config.requestTimeoutMs),
          mayHaveLost: () => volumesByIndex.current[index]?.upstreamWasLost(),
        });
        upstreams.push(upstream);
        checkUpstream(upstream, volume.upstream);
      }
      const hooks: { wantsFlush: () => void; failed: (fault: unknown) => void } = {
        wantsFlush: () => undefined,
        failed: () => undefined,
      };
      const tracker = await Tracker.open(platform, {
        directory: config.stateDirectory,
        group: config.group,
        granularityBytes: config.granularityBytes,
        hotExtents: config.hotExtents,
        durability: config.durability,
        volumes: config.volumes.map(({ name }, index) => ({
          index,
          name,
          sizeBytes: upstreams[index]?.sizeBytes ?? 0,
        })),
        hooks: {
          wantsFlush: () => {
            hooks.wantsFlush();
          },
          failed: (fault) => {
            hooks.failed(fault);
          },
        },
      });
      const group = new AgentGroup(platform, config, log, tracker, upstreams);
      volumesByIndex.current = group.#volumes;
      hooks.wantsFlush = () => {
        group.#flusher.want();
      };
      hooks.failed = (fault) => {
        log.error('tracking-failed', { fault: String(fault) });
      };
      return group;
    } catch (fault) {
      for (const upstream of upstreams) await upstream.close();
      throw fault;
    }
  }

  private constructor(
    platform: Platform,
    config: AgentConfig,
    log: Logger,
    tracker: Tracker,
    upstreams: readonly Upstream[],
  ) {
    this.#platform = platform;
    this.config = config;
    this.#log = log;
    this.#tracker = tracker;
    this.#upstreams = upstreams;
    this.#proof = new FlushProof(upstreams.length);
    const { clock } = platform;
    this.#mirror = new Mirror({
      clock,
      tracker,
      log,
      windowBytes: config.windowBytes,
      hasHub: config.hubs.length > 0,
      line: uuidBytes(tracker.identity.line.id),
      events: {
        spanWanted: () => {
          this.#beginSpan();
        },
        roomMade: () => this.#gate?.roomMade(),
        spanDurable: () => {
          this.#lastResync = this.#endedResync ?? this.#lastResync;
          this.#link?.noteConsistent();
          void this.#flusher.settle();
        },
        failed: (fault) => {
          this.#stoppedReason = asError(fault).message;
          log.error('mirroring-stopped', { reason: this.#stoppedReason });
        },
      },
    });
    const marks = new Marks(tracker, clock, log, (fault) => {
      this.#mirror.fail(fault);
    });
    this.#gate = config.onCongestion === 'block' ? new CongestionGate(this.#mirror) : null;
    this.#volumes = config.volumes.map(
      ({ name }, index) =>
        new GuestVolume({
          index,
          name,
          upstream: emulateFua(upstreams[index] as BlockDevice),
          tracker,
          marks,
          proof: this.#proof,
          mirror: this.#mirror,
          log,
          gate: this.#gate,
          upstreamIsUp: () => upstreams[index]?.status.up ?? false,
        }),
    );
    this.#copier = new Copier({
      clock,
      volumes: this.#volumes,
      tracker,
      proof: this.#proof,
      mirror: this.#mirror,
      log,
      granularityBytes: config.granularityBytes,
      maxBytesPerSecond: config.maxBytesPerSecond,
      ended: (progress) => {
        this.#resyncEnded(progress);
      },
      unreadable: () => {
        this.#unreadable++;
      },
    });
    this.#flusher = new Flusher({
      clock,
      log,
      volumes: this.#volumes,
      tracker,
      proof: this.#proof,
      mirror: this.#mirror,
      idleMs: IDLE_FLUSH_MS,
    });
    this.#link =
      config.hubs.length === 0
        ? null
        : new HubLink({
            platform,
            log,
            config,
            tracker,
            mirror: this.#mirror,
            volumes: this.#volumes,
            report: () => this.#report(),
          });
  }

  /** Listens for guests and starts towards the hub. Throws the ConfigFault of an address that cannot be had. */
  async start(): Promise<void> {
    const byAddress = new Map<string, { address: Address; devices: Map<string, BlockDevice> }>();
    const add = (uri: string, volumes: readonly GuestVolume[]): void => {
      const address = parseListenUri(uri);
      const key = formatAddress(address);
      const entry = byAddress.get(key) ?? { address, devices: new Map<string, BlockDevice>() };
      for (const volume of volumes) entry.devices.set(volume.name, volume);
      byAddress.set(key, entry);
    };
    for (const uri of this.config.listen) add(uri, this.#volumes);
    for (const [index, { listen }] of this.config.volumes.entries()) {
      for (const uri of listen) add(uri, this.#volumes.slice(index, index + 1));
    }
    for (const { address, devices } of byAddress.values()) {
      const server = new NbdServer({
        platform: this.#platform,
        exports: fixedExports(devices),
        onFault: (fault) => {
          this.#faults++;
          this.#log.warn('client-fault', { code: fault.code, peer: fault.peer, reason: fault.message });
        },
      });
      this.#servers.push(server);
      this.#listeners.push(await server.listen(address));
    }
    this.#flusher.start();
    this.#link?.start();
    this.#tick();
  }

  /** Where guests are served: real addresses. */
  get addresses(): Address[] {
    return this.#listeners.map((listener) => listener.address);
  }

  #tick(): void {
    this.#timer = this.#platform.clock.after(1000, () => {
      this.#mirror.adjustTime();
      this.#mirror.wantSpan();
      this.#tick();
    });
  }

  #beginSpan(): void {
    if (this.#mirror.state === 'span' || this.#link === null) return;
    const cause = this.#link.takeSpanCause();
    this.#mirror.beginSpan(cause);
    this.#link.announceVolumes();
    this.#copier.start(cause);
  }

  #resyncEnded(progress: CopyProgress): void {
    this.#endedResync = {
      cause: progress.cause,
      bytesSent: progress.bytesSent,
      bytesCompared: 0,
      finishedAt: new Date(this.#platform.clock.unixMs()).toISOString(),
    };
    this.#log.info('resync-ended', {
      cause: progress.cause,
      bytesSent: progress.bytesSent,
      bytesCovered: progress.bytesDone,
      tookMs: Math.round(this.#platform.clock.monotonicMs() - progress.startedMs),
    });
  }

  // Status --------------------------------------------------------------------------------------

  status(): GroupStatus {
    const report = this.#report();
    return {
      name: this.config.group,
      ...reportOf(report, this.config.hubs.length > 0),
      seq: this.#mirror.lastNumber,
      durableSeq: this.#mirror.durableNumber,
      generation: this.#tracker.identity.line.id,
      agentConnected: this.#mirror.linked,
      failover: null,
      tests: [],
      volumes: this.#volumes.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
      upstream: this.#upstreams.map((upstream, index) => ({
        volume: this.config.volumes[index]?.name ?? '',
        uri: this.config.volumes[index]?.upstream ?? '',
        ...upstream.status,
      })),
      hub: this.#link?.status ?? null,
      clients: this.#servers.flatMap((server) =>
        server.clients().map(({ peer, exportName, requestsInFlight, requestsDone }) => ({
          peer,
          exportName,
          requestsInFlight,
          requestsDone,
        })),
      ),
      dirtyBytes: this.#tracker.dirtyBytes,
      hotExtents: this.#tracker.hotExtents,
      windowBytes: this.#mirror.window.bytes,
      counters: { ...this.#mirror.counters, clientFaults: this.#faults },
      tracking: {
        found: this.#tracker.found,
        reason: this.#tracker.foundReason,
        session: this.#tracker.identity.session,
      },
    };
  }

  #report(): AgentReport {
    const progress = this.#copier.progress;
    const now = this.#platform.clock.monotonicMs();
    const rate = progress === null ? 0 : progress.bytesDone / Math.max(1, now - progress.startedMs);
    const { state, reason } = this.#describe(progress);
    return {
      state,
      reason,
      mode: this.config.mode,
      effectiveMode: this.config.mode,
      rpoMs: this.#mirror.exposedMs(),
      lagBytes: this.#mirror.window.bytes + this.#tracker.dirtyBytes,
      dirtyBytes: this.#tracker.dirtyBytes,
      lastNumber: this.#mirror.lastNumber,
      resync:
        progress === null
          ? null
          : {
              cause: progress.cause,
              bytesDone: progress.bytesDone,
              bytesTotal: Math.max(progress.bytesTotal, progress.bytesDone),
              etaSeconds: rate > 0 ? Math.max(0, progress.bytesTotal - progress.bytesDone) / rate / 1000 : null,
            },
      lastResync: this.#lastResync,
    };
  }

  #describe(progress: Readonly<CopyProgress> | null): ReturnType<typeof describeState> {
    const link = this.#link?.status ?? null;
    return describeState({
      hasHub: link !== null,
      paused: link?.paused ?? false,
      stream: this.#mirror.state,
      linked: this.#mirror.linked,
      linkReason: link?.reason ?? null,
      refused: link?.refused ?? false,
      everConsistent: link?.everConsistent ?? false,
      unreadableRanges: this.#unreadable,
      upstreamReason: this.#upstreams.find((upstream) => !upstream.status.up)?.status.reason ?? null,
      stoppedReason: this.#stoppedReason,
      resyncCause: progress?.cause ?? null,
      stalled: link?.stalled ?? null,
    });
  }

  /** A fault that nobody caught: mirroring stops, guest I/O goes on (promise FAIL-OPEN). */
  failMirroring(fault: unknown): void {
    this.#mirror.fail(fault);
  }

  // Operator ------------------------------------------------------------------------------------

  /** Stops sending and goes on marking; stays so across restarts until `resume`. */
  async pause(): Promise<void> {
    await this.#link?.pause();
  }

  async resume(): Promise<void> {
    await this.#link?.resume();
  }

  /** Copies what is dirty again, or everything. Throws a ConfigFault when there is no hub. */
  async resync(full: boolean): Promise<void> {
    if (this.#link === null) throw new ConfigFault('no-hub', 'there is no hub to resync with');
    if (full) await this.#mirror.copyEverything('asked for by the operator');
    this.#mirror.wantSpan();
  }

  /**
   * The orderly end: no new clients, requests in flight answered, upstream flushed, the hub given time to
   * acknowledge, state saved clean. Returns false when the state could only be saved unclean.
   */
  async stop(): Promise<boolean> {
    const { clock } = this.#platform;
    this.#timer?.cancel();
    this.#flusher.stop();
    const closed = Promise.all(this.#servers.map((server) => server.close(STOP_REQUESTS_MS)));
    await Promise.race([closed, sleep(clock, STOP_REQUESTS_MS)]);
    // An upstream that is away now will not answer what waits for it.
    for (const upstream of this.#upstreams) if (!upstream.status.up) upstream.giveUp();
    await Promise.race([closed, sleep(clock, STOP_COPIER_MS)]);
    await Promise.race([this.#copier.stop(), sleep(clock, STOP_COPIER_MS)]);
    let clean = true;
    try {
      await Promise.race([
        this.#flusher.flushAll(),
        sleep(clock, STOP_FLUSH_MS).then(() => {
          throw new Error('upstream did not answer the last flush in time');
        }),
      ]);
    } catch (fault) {
      this.#log.error('last-flush-failed', { fault: asError(fault).message });
      clean = false;
    }
    clean &&= this.#upstreams.every((upstream) => upstream.status.up);
    const deadline = clock.monotonicMs() + STOP_DURABLE_MS;
    while (this.#mirror.linked && this.#mirror.window.count > 0 && clock.monotonicMs() < deadline) {
      await sleep(clock, STOP_POLL_MS);
    }
    await this.#link?.stop('repagent is stopping');
    this.#mirror.setAside();
    if (clean && !this.#mirrorFailed) await this.#tracker.closeClean(this.#mirror.lastNumber);
    else await this.#tracker.close();
    await Promise.race([Promise.all(this.#upstreams.map((upstream) => upstream.close())), sleep(clock, 1000)]);
    return clean;
  }

  get #mirrorFailed(): boolean {
    return this.#mirror.state === 'stopped';
  }
}
