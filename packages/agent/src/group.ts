/**
 * One protected group, wired: upstreams, tracker, mirror, volumes, copier, link and NBD listeners, in the
 * order in which they must start and stop. No logic of its own beyond that order.
 */
import { Tracker } from '@rephub/bitmap';
import { type BlockDevice, DEFAULT_LIMITS, fitLimits } from '@rephub/nbd';
import {
  type Address,
  asError,
  ConfigFault,
  type FileLock,
  type Logger,
  type Platform,
  type Timer,
  uuidBytes,
} from '@rephub/platform';
import { Acknowledgement, type AckMode } from './mirror/acknowledgement.js';
import { CongestionGate } from './mirror/congestion-gate.js';
import { type AgentConfig } from './config.js';
import { Packer } from './compression/packer.js';
import { DoubtNote } from './flushes/doubt-note.js';
import { FlushProof } from './flushes/flush-proof.js';
import { Flusher } from './guest/flusher.js';
import { FreezeGate } from './mirror/freeze-gate.js';
import { Growth } from './growth.js';
import { GuestDoor, type PassedSocket } from './guest/guest-door.js';
import { GuestLatency } from './guest/guest-latency.js';
import { GuestVolume } from './guest/guest-volume.js';
import { HubLink } from './link/hub-link.js';
import { Marks } from './mirror/marks.js';
import { Mirror } from './mirror/mirror.js';
import { endInOrder } from './orderly-end.js';
import { type GroupStatus } from './status/report.js';
import { Reporter } from './status/reporter.js';
import { Resyncing } from './resync/resyncing.js';
import { Standing } from './link/standing.js';
import { type UpstreamsAwaited } from './starting.js';
import { doubtOf, lookAtFiles, UpstreamWatch } from './upstream-watch.js';
import { openUpstreams, type UpstreamOwner } from './upstream/open-upstreams.js';
import { readAhead } from './upstream/read-ahead.js';
import { type Upstream } from './upstream/upstream.js';

const IDLE_FLUSH_MS = 5_000;

export class AgentGroup {
  readonly config: AgentConfig;
  readonly #platform: Platform;
  readonly #log: Logger;
  readonly #tracker: Tracker;
  readonly #proof: FlushProof;
  readonly #mirror: Mirror;
  readonly #upstreams: readonly Upstream[];
  readonly #volumes: readonly GuestVolume[];
  readonly #resyncing: Resyncing;
  readonly #flusher: Flusher;
  readonly #standing: Standing;
  readonly #link: HubLink | null;
  readonly #gate: CongestionGate | null;
  readonly #freeze: FreezeGate | null;
  readonly #acknowledgement: Acknowledgement;
  readonly #door: GuestDoor;
  #timer: Timer | null = null;
  readonly #reporter: Reporter;
  readonly #watch: UpstreamWatch;
  readonly #growth: Growth;
  readonly #doubtNote: DoubtNote;

  /** Opens everything but the listeners. Throws the ConfigFault of what is wrong. */
  static async open(
    platform: Platform,
    config: AgentConfig,
    log: Logger,
    start: { readonly lock: FileLock; readonly awaited: UpstreamsAwaited } | null = null,
  ): Promise<AgentGroup> {
    const latency = new GuestLatency();
    const owner: UpstreamOwner = { volumes: [], growth: null, latency };
    const upstreams = await openUpstreams(platform, config, log, owner, start?.awaited ?? null);
    try {
      const seen = await lookAtFiles(platform.files, config.volumes);
      const hooks: { wantsFlush: () => void; failed: (fault: unknown) => void } = {
        wantsFlush: () => undefined,
        failed: () => undefined,
      };
      const doubt: { reason: string | null } = { reason: null };
      const bootId = await platform.bootId();
      if (bootId === null && config.durability === 'process') log.warn('no-boot-id');
      const tracker = await Tracker.open(platform, {
        directory: config.stateDirectory,
        ...(start === null ? {} : { lock: start.lock }),
        group: config.group,
        granularityBytes: config.granularityBytes,
        hotExtents: config.hotExtents,
        durability: config.durability,
        bootId,
        mayShrink: config.allowShrink,
        doubt: (notes) => (doubt.reason = doubtOf(seen, notes, config.volumes)),
        volumes: config.volumes.map(({ name }, position) => ({
          name,
          sizeBytes: upstreams[position]?.sizeBytes ?? 0,
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
      const changedBehind = tracker.found === 'untrusted' ? doubt.reason : null;
      const telling = new Set(seen.map(({ volume }) => volume));
      const files = { telling, changedBehind };
      const group = new AgentGroup(platform, config, log, tracker, upstreams, files, latency);
      // Before anything can happen to a volume that would be noted in place of it.
      group.#doubtNote.recall();
      owner.volumes = group.#volumes;
      owner.growth = group.#growth;
      if (changedBehind !== null) log.error('changed-behind', { reason: changedBehind });
      else if (tracker.found === 'untrusted') log.warn('marks-not-believed', { reason: tracker.foundReason });
      await group.#watch.start();
      await group.#resyncing.recall();
      hooks.wantsFlush = () => {
        group.#flusher.want();
      };
      if (tracker.found !== 'clean') group.#proveWhatWasWritten();
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
    /** Volumes whose upstream tells by itself whether it was changed, and what they have told. */
    files: { readonly telling: ReadonlySet<string>; readonly changedBehind: string | null },
    latency: GuestLatency,
  ) {
    this.#platform = platform;
    this.config = config;
    this.#log = log;
    this.#tracker = tracker;
    this.#upstreams = upstreams;
    this.#proof = new FlushProof();
    this.#door = new GuestDoor(platform, (fault) => {
      this.#reporter.clientFaults++;
      log.warn('client-fault', { code: fault.code, peer: fault.peer, reason: fault.message });
    });
    const { clock } = platform;
    this.#mirror = new Mirror({
      clock,
      tracker,
      log,
      packer: new Packer(config.compress, clock, platform.codecs),
      windowBytes: config.windowBytes,
      hasHub: config.hubs.length > 0,
      line: uuidBytes(tracker.identity.line.id),
      exposureKnown: tracker.found === 'clean',
      events: {
        spanWanted: () => {
          this.#resyncing.beginSpan();
        },
        roomMade: () => this.#gate?.roomMade(),
        stepChanged: () => {
          this.#acknowledgement.stepChanged(this.#mirror.state === 'streaming', this.#mirror.linked);
          this.#freeze?.changed();
        },
        acknowledged: (received, durable) => {
          this.#acknowledgement.acknowledged(received, durable);
        },
        spanDurable: () => {
          this.#reporter.spanDurable();
          this.#resyncing.order.spanDurable();
          this.#link?.noteConsistent();
          void this.#flusher.settle();
        },
        failed: (fault) => {
          const reason = asError(fault).message;
          this.#reporter.stoppedReason = reason;
          log.error('mirroring-stopped', { reason });
        },
      },
    });
    const marks = new Marks(tracker, clock, log, (fault) => {
      this.#mirror.fail(fault);
    });
    const standing = new Standing(tracker);
    this.#standing = standing;
    this.#acknowledgement = new Acknowledgement({
      clock,
      log,
      mode: config.mode,
      stored: standing.inForce,
      onDisconnect: config.onDisconnect,
      lastNumber: () => this.#mirror.lastNumber,
      hurry: () => this.#mirror.hurry(),
      store: async (inForce) => {
        try {
          await standing.noteInForce(inForce);
        } catch (fault) {
          if (inForce !== 'async') throw fault;
          await marks.disown(fault);
        }
      },
    });
    this.#freeze =
      config.onDisconnect === 'freeze'
        ? new FreezeGate(() => !standing.paused && (!this.#mirror.linked || this.#mirror.state === 'stopped'))
        : null;
    this.#gate = config.onCongestion === 'block' ? new CongestionGate(this.#mirror) : null;
    this.#volumes = config.volumes.map(
      ({ name }, position) =>
        new GuestVolume({
          index: tracker.indexOf(name),
          name,
          clock,
          upstream: readAhead(upstreams[position] as BlockDevice, config.readCacheBytes),
          // What we read ourselves is cut to what this upstream takes.
          reader: fitLimits((upstreams[position] as Upstream).once, DEFAULT_LIMITS),
          tracker,
          marks,
          proof: this.#proof,
          mirror: this.#mirror,
          log,
          gate: this.#gate,
          freeze: this.#freeze,
          acknowledgement: this.#acknowledgement,
          upstreamIsUp: () => upstreams[position]?.status.up ?? false,
          upstreamDoubt: upstreams[position] as Upstream,
          doubted: () => this.#doubtNote.look(),
        }),
    );
    this.#doubtNote = new DoubtNote(tracker, log, () => this.#volumes);
    this.#watch = new UpstreamWatch({
      clock,
      files: platform.files,
      log,
      tracker,
      volumes: config.volumes,
      work: () => this.#volumes.reduce((sum, { guestRequests }) => sum + guestRequests, 0),
    });
    this.#resyncing = new Resyncing({
      platform,
      log,
      config,
      tracker,
      mirror: this.#mirror,
      marks,
      proof: this.#proof,
      volumes: this.#volumes,
      latency,
      telling: files.telling,
      link: () => this.#link,
      ended: (progress) => {
        this.#reporter.resyncEnded(progress);
      },
      unreadable: () => {
        this.#reporter.unreadableRanges++;
      },
    });
    const { comparer, hashes, sample, verifier } = this.#resyncing;
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
            standing,
            comparer,
            order: this.#resyncing.order,
            changedBehind: files.changedBehind,
            hashes,
            volumes: this.#volumes,
            report: () => this.#reporter.report(),
            findings: this.#resyncing.findings,
            verify: (id, cause) => {
              verifier.start(id, cause);
            },
            linkedUp: (comparesAll, canHash) => {
              sample.linkUp(comparesAll, canHash);
            },
            copyAll: (compare, cause) => this.#resyncing.copyAll(compare, cause),
          });
    this.#growth = new Growth({
      log,
      tracker,
      upstreams,
      mirror: this.#mirror,
      volumes: this.#volumes,
      watch: this.#watch,
      link: this.#link,
    });
    this.#reporter = new Reporter({
      clock,
      log,
      config,
      tracker,
      mirror: this.#mirror,
      acknowledgement: this.#acknowledgement,
      upstreams,
      volumes: this.#volumes,
      isFrozen: () => this.#freeze?.isShut ?? false,
      resyncing: this.#resyncing,
      growth: this.#growth,
      link: this.#link,
      servers: this.#door.servers,
    });
  }

  /**
   * What a process before has written and not flushed is not at hand, nor what was written without an agent before the first
   * one: a flush of ours proves it, or the guest's fails.
   */
  #proveWhatWasWritten(): void {
    for (const upstream of this.#upstreams) upstream.unflushedBefore();
    for (const { index } of this.#volumes) this.#proof.written(index, this.#tracker.takeTicket());
    this.#flusher.want();
  }

  /**
   * Listens for guests, or takes the sockets that were passed, and starts towards the hub. Throws the ConfigFault of
   * an address that cannot be had.
   */
  async start(passed: readonly PassedSocket[] = []): Promise<void> {
    await this.#door.open(this.config, this.#volumes, passed);
    this.#flusher.start();
    this.#link?.start();
    this.#tick();
    if (this.#link !== null) this.#resyncing.verifier.schedule(this.config.verifyEveryMs);
  }

  get requestsInFlight(): number {
    return this.#door.requestsInFlight;
  }

  /** Where guests are served: real addresses. */
  get addresses(): Address[] {
    return this.#door.addresses;
  }

  #tick(): void {
    this.#timer = this.#platform.clock.after(1000, () => {
      this.#mirror.adjustTime();
      this.#mirror.wantSpan();
      this.#doubtNote.look();
      this.#tick();
    });
  }

  status(): GroupStatus {
    return this.#reporter.status();
  }

  /** A fault that nobody caught: mirroring stops, guest I/O goes on (promise FAIL-OPEN). */
  failMirroring(fault: unknown): void {
    this.#mirror.fail(fault);
  }

  // Operator ------------------------------------------------------------------------------------

  /** Stops sending and goes on marking; stays so across restarts until `resume`. */
  async pause(): Promise<void> {
    await this.#link?.pause();
    this.#freeze?.changed();
  }

  /** Guests are answered by this mode from now on, until the agent's next start. Throws a ConfigFault when there is no hub. */
  setMode(mode: AckMode): void {
    if (this.#link === null) throw new ConfigFault('no-hub', `mode ${mode} needs a hub`);
    this.#acknowledgement.setMode(mode);
  }

  async resume(): Promise<void> {
    await this.#link?.resume();
  }

  /** Copies what is dirty now; or everything: only what differs by checksum, or all of it. Throws a ConfigFault when there is no hub. */
  async resync(full: boolean, compare = false): Promise<void> {
    if (this.#link === null) throw new ConfigFault('no-hub', 'there is no hub to resync with');
    if (full || compare) await this.#resyncing.copyAll(compare, 'asked for by the operator', true);
    this.#mirror.wantSpan();
  }

  /** Compares everything with the hub while the guest goes on; the outcome is in the status, under the id that this returns. */
  verify(): { readonly id: string } {
    if (this.#link === null) throw new ConfigFault('no-hub', 'there is no hub to verify against');
    return { id: this.#resyncing.verifier.start(null, 'asked for by the operator') };
  }

  /** The orderly end (orderly-end.ts). Returns false when the state could only be saved unclean. */
  async stop(): Promise<boolean> {
    this.#timer?.cancel();
    return await endInOrder({
      clock: this.#platform.clock,
      log: this.#log,
      servers: this.#door.servers,
      upstreams: this.#upstreams,
      tracker: this.#tracker,
      mirror: this.#mirror,
      flusher: this.#flusher,
      standing: this.#standing,
      link: this.#link,
      watch: this.#watch,
      readers: [this.#growth, ...this.#resyncing.readers],
      waitForHubNoLonger: () => {
        this.#acknowledgement.giveUp();
        this.#freeze?.giveUp();
      },
    });
  }
}
