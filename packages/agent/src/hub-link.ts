/**
 * The agent's side of the link: connects, shakes hands, carries out the verdict of the lineage table, and comes back
 * for ever with backoff (promises LINEAGE, BEAT). One session at a time.
 *
 * Always holds: records flow only between the hub's acknowledgement of Start and the end of that session; what the
 * verdict says is done to the mirror before the first record flows.
 *
 * Must not know: NBD clients, how content is copied.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Clock, type Fault, LinkFault, type Platform, randomUuid, asError } from '@rephub/platform';
import {
  type AgentReport,
  Backoff,
  type Beat,
  commonFeatures,
  decideLineage,
  dialAddress,
  type Divergence,
  firstNumberOf,
  FrameLink,
  FrameType,
  fullReason,
  HASHES_FEATURE,
  type Hello,
  parseHubUrl,
  type ReadRegion,
  type Refuse,
  type Welcome,
} from '@rephub/protocol';
import { type Comparer } from './comparer.js';
import { giveUpForeign, isLocalHub, pressureOf } from './compression/pressure.js';
import { type AgentConfig } from './config.js';
import { type GuestVolume } from './guest-volume.js';
import { type HashClient } from './hash-client.js';
import { Handshake } from './handshake.js';
import { carryOutRequest, type RequestParts } from './hub-requests.js';
import { type LinkStatus } from './link-status.js';
import { readRegion } from './region-reader.js';
import { Standing } from './standing.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** After a refusal that only a person can lift: how often it is tried all the same. */
const REFUSED_RETRY_MS = 30_000;
const SAVE_DURABLE_MS = 10_000;
/** Refusals that say: the hub holds other records under our numbers. */
const CHAIN_CODES = new Set(['record-chain', 'record-number', 'record-line']);

export interface HubLinkParts extends RequestParts {
  readonly platform: Platform;
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly standing: Standing;
  readonly comparer: Comparer;
  readonly hashes: HashClient;
  readonly volumes: readonly GuestVolume[];
  readonly report: () => AgentReport;
  /** Records flow. `comparesAll`: everything is compared or sent; `canHash`: the hub can tell what it holds. */
  readonly linkedUp: (comparesAll: boolean, canHash: boolean) => void;
}

export class HubLink {
  readonly #parts: HubLinkParts;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #link: FrameLink | null = null;
  #connecting: AbortController | null = null;
  #stopped = false;
  readonly #standing: Standing;
  readonly #handshake: Handshake;
  #wake: (() => void) | null = null;
  #running: Promise<void> | null = null;
  #reason: string | null = 'not connected yet';
  #refused = false;
  #everConsistent = false;
  #stalled: string | null = null;
  #connectedTo: string | null = null;
  #hub: { readonly id: string; readonly epoch: number } | null = null;
  /** What both sides can do beyond the protocol's version. */
  #features: readonly string[] = [];
  #sessions = 0;
  #lastVerdict: string | null = null;
  #comparesAll = false;
  /** To the same hub, without waiting. */
  #comesBack = false;
  #echoMs: number | null = null;
  #savedDurableAtMs = 0;

  constructor(parts: HubLinkParts) {
    this.#parts = parts;
    this.#clock = parts.platform.clock;
    this.#backoff = new Backoff(parts.platform.randomness);
    this.#standing = parts.standing;
    this.#handshake = new Handshake({ ...parts, nonce: randomUuid(parts.platform.randomness) }, this.#standing);
  }

  get status(): LinkStatus {
    return {
      urls: this.#parts.config.hubs,
      connectedTo: this.#connectedTo,
      hubId: this.#hub?.id ?? null,
      epoch: this.#hub?.epoch ?? null,
      connected: this.#parts.mirror.linked,
      reason: this.#reason,
      refused: this.#refused,
      paused: this.#standing.paused,
      everConsistent: this.#everConsistent,
      stalled: this.#stalled,
      sessions: this.#sessions,
      lastVerdict: this.#lastVerdict,
      divergence: this.#standing.divergence,
    };
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(reason: string): Promise<void> {
    this.#stopped = true;
    this.#connecting?.abort();
    this.#link?.end(reason);
    this.#wake?.();
    await this.#running;
  }

  async pause(): Promise<void> {
    await this.#standing.pause();
    this.#parts.log.info('paused');
    this.#parts.mirror.leaveStep();
    this.#link?.end('paused by the operator');
  }

  /** The operator's word to go on, after a pause or after the hub had barred this agent. */
  async resume(): Promise<void> {
    await this.#standing.goOn();
    this.#parts.log.info('resumed');
    this.#refused = false;
    this.#wake?.();
  }

  /** Stays away, across restarts too, until the operator says `resume`. */
  #bar(why: string, divergence: Divergence | null = null): void {
    this.#refused = true;
    this.#standing.bar(why, divergence).catch((fault: unknown) => {
      this.#parts.log.error('identity-not-saved', { fault: String(fault) });
    });
  }

  /** A span's end is durable: there is a point that can be opened. */
  noteConsistent(): void {
    this.#everConsistent = true;
  }

  /** Why the span that begins now is needed; the verdict's row where one asked for it. */
  takeSpanCause(): string {
    return this.#handshake.takeSpanCause();
  }

  /** Ends the session in this turn and begins another at once: what Hello said is true no longer. */
  leave(why: string): void {
    const link = this.#link;
    if (link === null) return;
    this.#comesBack = link.isOpen && this.#parts.mirror.linked;
    this.#closed(link, null);
    this.#reason = why;
    link.end(why);
  }

  /** Tells the hub how things are now instead of with the next beat. */
  reportNow(): void {
    if (this.#parts.mirror.linked) this.#link?.sendControl(FrameType.Beat, this.#beat());
  }

  /** The next span is needed because of this. */
  noteSpanCause(cause: string): void {
    this.#handshake.noteSpanCause(cause);
  }

  /** The volumes that the hub does not know of yet, to be announced within the span that begins. */
  announceVolumes(): void {
    this.#handshake.announceVolumes();
  }

  // Connecting ------------------------------------------------------------------------------------

  async #run(): Promise<void> {
    let at = 0;
    while (!this.#stopped) {
      const { paused, barred } = this.#standing;
      if (paused || barred !== null) {
        this.#refused = !paused;
        this.#reason = paused ? 'paused' : `${barred ?? ''}; 'repagent resume' tries again`;
        await this.#sleep(Number.MAX_SAFE_INTEGER);
        continue;
      }
      const url = this.#parts.config.hubs[at % this.#parts.config.hubs.length] ?? '';
      at++;
      const begunMs = this.#clock.monotonicMs();
      let retryMs: number | null = null;
      try {
        retryMs = await this.#session(url);
      } catch (thrown) {
        this.#reason = `${url}: ${asError(thrown).message}`;
      }
      this.#backoff.sessionEnded(this.#clock.monotonicMs() - begunMs);
      if (this.#isStopped()) return;
      if (this.#comesBack) {
        this.#comesBack = false;
        at--;
        continue;
      }
      const delayMs = this.#backoff.nextDelayMs();
      this.#parts.log.info('hub-away', { url, reason: this.#reason, retryMs: Math.round(retryMs ?? delayMs) });
      await this.#sleep(retryMs ?? delayMs);
    }
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  /** Until the time is over or something has changed. */
  async #sleep(delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = delayMs === Number.MAX_SAFE_INTEGER ? null : this.#clock.after(delayMs, resolve);
      this.#wake = () => {
        timer?.cancel();
        resolve();
      };
    });
    this.#wake = null;
  }

  /** One session from connecting to its end. Returns the wait before the next one; null: as the backoff says. */
  async #session(url: string): Promise<number | null> {
    await this.#handshake.prepare();
    this.#connecting = new AbortController();
    const connection = await this.#parts.platform.network.connect(dialAddress(parseHubUrl(url)), {
      timeoutMs: CONNECT_TIMEOUT_MS,
      signal: this.#connecting.signal,
    });
    if (this.#stopped || this.#standing.paused) {
      connection.destroy();
      return null;
    }
    const refusal: { retryMs: number | null } = { retryMs: null };
    await new Promise<void>((resolve) => {
      const hello = this.#handshake.hello();
      const over = (fault: Fault | null): void => {
        this.#closed(link, fault);
        resolve();
      };
      const link: FrameLink = new FrameLink({
        connection,
        clock: this.#clock,
        beat: () => this.#beat(),
        handlers: {
          welcome: (welcome) => {
            this.#welcomed(link, hello, welcome, over).catch((fault: unknown) => {
              this.#failed(link, fault);
            });
          },
          refuse: (refuse) => {
            refusal.retryMs = this.#refusedBy(refuse);
          },
          closed: over,
        },
      });
      this.#link = link;
      this.#connectedTo = url;
      link.sendControl(FrameType.Hello, hello);
    });
    return this.#refused ? (refusal.retryMs ?? REFUSED_RETRY_MS) : refusal.retryMs;
  }

  #closed(link: FrameLink, fault: Fault | null): void {
    if (this.#link !== link) return;
    this.#link = null;
    this.#connectedTo = null;
    // The next hub's clock is another one.
    this.#echoMs = null;
    this.#stalled = null;
    this.#parts.hashes.linkDown();
    this.#parts.mirror.packer.linkDown();
    this.#parts.mirror.linkDown();
    if (!this.#refused) this.#reason = fault === null ? 'the hub ended the session' : fault.message;
    if (this.#standing.paused) this.#reason = 'paused';
  }

  /** A bug of ours: mirroring stops, guest I/O goes on (promise FAIL-OPEN). */
  #failed(link: FrameLink, fault: unknown): void {
    this.#parts.mirror.fail(fault);
    link.end(`internal error: ${asError(fault).message}`);
  }

  #refusedBy(refuse: Refuse): number | null {
    this.#reason = `refused by the hub: ${refuse.message}`;
    this.#refused = refuse.retryAfterMs === null;
    this.#parts.log.warn('refused-by-hub', { code: refuse.code, reason: refuse.message });
    if (Standing.isBarring(refuse.code)) this.#bar(this.#reason);
    // The hub holds other records under our numbers: what the window says of it is not to be believed.
    if (CHAIN_CODES.has(refuse.code)) this.#handshake.doubtWindow();
    return refuse.retryAfterMs;
  }

  // Handshake ---------------------------------------------------------------------------------------

  async #welcomed(
    link: FrameLink,
    hello: Hello,
    welcome: Welcome,
    closed: (fault: Fault | null) => void,
  ): Promise<void> {
    const { log, mirror } = this.#parts;
    const verdict = decideLineage(hello, welcome.group);
    this.#hub = { id: welcome.hubId, epoch: welcome.epoch };
    this.#features = commonFeatures(welcome.features, mirror.packer.features);
    this.#lastVerdict = verdict.row;
    this.#comparesAll = verdict.kind === 'first-sync' || verdict.kind === 'compare-everything';
    this.#everConsistent = welcome.group !== null && welcome.group.consistentNumber !== null;
    log.info('verdict', { verdict: verdict.kind, row: verdict.row, reason: fullReason(verdict) });
    link.setHeartbeat(welcome.heartbeatMs, welcome.timeoutMs);
    if (verdict.kind === 'refuse' || verdict.kind === 'superseded' || verdict.kind === 'split-brain') {
      this.#refused = true;
      this.#reason = `${verdict.kind}: ${verdict.reason}${this.#handshake.refused(verdict, welcome)}`;
      if (Standing.isBarring(verdict.row)) this.#bar(this.#reason, verdict.divergence ?? null);
      mirror.leaveStep();
      link.refuse(new LinkFault('lineage', `${verdict.kind}: ${fullReason(verdict)}`), null);
      return;
    }
    this.#refused = false;
    const misfit = giveUpForeign(mirror, verdict, welcome);
    if (misfit !== null) {
      link.end(misfit);
      return;
    }
    try {
      await this.#handshake.carryOut(verdict, welcome);
      await this.#standing.reserve(mirror.lastNumber);
    } catch (thrown) {
      link.refuse(new LinkFault('marks-not-durable', asError(thrown).message), null);
      return;
    }
    if (this.#link !== link || !link.isOpen) return;
    link.use({
      ack: (ack) => {
        this.#up(link);
        mirror.checkAcknowledged(ack.received, ack.durable);
        this.#acknowledged(ack.received, ack.durable, ack.stalled);
      },
      readRegion: (request) => {
        this.#readRegion(link, request).catch((fault: unknown) => {
          this.#failed(link, fault);
        });
      },
      hashes: (hashes) => {
        this.#parts.hashes.answered(hashes, mirror.durableNumber);
      },
      request: (request) => {
        carryOutRequest(this.#parts, request).catch((fault: unknown) => {
          this.#failed(link, fault);
        });
      },
      refuse: (refuse) => {
        this.#refusedBy(refuse);
      },
      beat: (beat) => {
        this.#echoMs = beat.sentMs;
      },
      drained: () => {
        mirror.pump();
      },
      closed,
    });
    link.sendControl(FrameType.Start, {
      verdict: verdict.kind,
      row: verdict.row,
      firstNumber: firstNumberOf(verdict),
    });
  }

  #reserveMore(): void {
    this.#standing.reserveMore(this.#parts.mirror.lastNumber)?.catch((fault: unknown) => {
      // Without a reserve no number may be used: writes are only marked until the next handshake.
      this.#parts.log.error('numbers-not-reserved', { fault: String(fault) });
      this.#parts.mirror.leaveStep();
      this.#link?.end('numbers could not be reserved');
    });
  }

  /** The hub has accepted Start: records flow. */
  #up(link: FrameLink): void {
    const { mirror, log } = this.#parts;
    if (mirror.linked) return;
    this.#reason = null;
    this.#sessions++;
    log.info('link-up', { hub: this.#hub?.id ?? '', url: this.#connectedTo ?? '' });
    const canHash = this.#features.includes(HASHES_FEATURE);
    if (canHash) {
      this.#parts.hashes.linkUp((request) => {
        // The hub answers for a number: what it rests on goes ahead of the question.
        mirror.hurry();
        link.sendControl(FrameType.HashRegion, request);
      });
    }
    const pressure = pressureOf(link, mirror);
    mirror.packer.linkUp(this.#features, isLocalHub(this.#connectedTo ?? ''), pressure);
    mirror.linkUp({
      send: (buffers) => {
        link.send(buffers);
        if (pressure.waits) mirror.packer.waits();
      },
      get congested() {
        return link.congested;
      },
    });
    this.#parts.linkedUp(this.#comparesAll, canHash);
  }

  // While it is up ------------------------------------------------------------------------------------

  #acknowledged(received: number, durable: number, stalled: string | null): void {
    const { mirror, tracker } = this.#parts;
    this.#stalled = stalled;
    mirror.acknowledged(received, durable);
    this.#reserveMore();
    const now = this.#clock.monotonicMs();
    if (now - this.#savedDurableAtMs < SAVE_DURABLE_MS) return;
    this.#savedDurableAtMs = now;
    tracker.saveIdentity({ durableNumber: durable }).catch((fault: unknown) => {
      this.#parts.log.warn('identity-not-saved', { fault: String(fault) });
    });
  }

  #beat(): Beat {
    return {
      sentMs: this.#clock.monotonicMs(),
      echoMs: this.#echoMs,
      unixMs: this.#clock.unixMs(),
      report: this.#parts.report(),
    };
  }

  async #readRegion(link: FrameLink, request: ReadRegion): Promise<void> {
    const refusal = await readRegion(this.#parts.volumes, this.#parts.mirror, request);
    if (refusal !== null) link.sendControl(FrameType.RegionRefused, { tag: request.tag, ...refusal });
  }
}
