/**
 * One session with a hub, from connecting to its end: shakes hands, carries out the verdict of the lineage table, and hands
 * what the hub says while records flow to whom it concerns (promises LINEAGE, BEAT).
 *
 * Always holds: records flow only between the hub's acknowledgement of Start and the end of the session; what the
 * verdict says is done to the mirror before the first record flows.
 *
 * Must not know: when the next session begins, NBD clients, how content is copied.
 */
import { asError, type Fault, LinkFault, type Platform } from '@rephub/platform';
import {
  type AgentReport,
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
  KEPT_EVENTS_FEATURE,
  parseHubUrl,
  type ReadRegion,
  type Refuse,
  type Welcome,
} from '@rephub/protocol';
import { giveUpForeign, isLocalHub, pressureOf } from '../mirror/pressure.js';
import { type Findings } from '../resync/findings.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type Handshake } from './handshake.js';
import { type HashClient } from '../resync/hash-client.js';
import { carryOutRequest, type RequestParts } from './hub-requests.js';
import { type LinkMemory } from './link-status.js';
import { readRegion } from './region-reader.js';
import { Standing } from './standing.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** After a refusal that only a person can lift: how often it is tried all the same. */
const REFUSED_RETRY_MS = 30_000;
/** Refusals that say: the hub holds other records under our numbers. */
const CHAIN_CODES = new Set(['record-chain', 'record-number', 'record-line']);

/** Another agent has the group. */
const REPLACED_CODES = new Set(['foreign-agent', 'owner-connected']);
const REPLACED_ROW = 'L3-foreign-agent';

/** What came instead of the hub's first frame was none. */
const NO_FRAME = 'frame-magic';
const WHICH_PORT = '--hub takes an address of --listen of rephub serve, not of its --http or --nbd';

export interface HubSessionParts extends RequestParts {
  readonly platform: Platform;
  readonly handshake: Handshake;
  readonly memory: LinkMemory;
  readonly standing: Standing;
  readonly hashes: HashClient;
  readonly volumes: readonly GuestVolume[];
  readonly report: () => AgentReport;
  readonly findings: Pick<Findings, 'kept' | 'heard'>;
  /** Records flow. `comparesAll`: everything is compared or sent; `canHash`: the hub can tell what it holds. */
  readonly linkedUp: (comparesAll: boolean, canHash: boolean) => void;
  /** The hub holds all up to this number; the mirror knows. */
  readonly acknowledged: (durableNumber: number) => void;
}

export class HubSession {
  readonly #parts: HubSessionParts;
  readonly #handshake: Handshake;
  /** Outlives the session. */
  readonly #memory: LinkMemory;
  readonly #url: string;
  /** Null before it is connected, and once it is over. */
  #link: FrameLink | null = null;
  #connecting: AbortController | null = null;
  #stopped = false;
  #stalled: string | null = null;
  /** What both sides can do beyond the protocol's version. */
  #features: readonly string[] = [];
  #comparesAll = false;
  /** The other side has said what a hub says. */
  #isHub = false;
  #echoMs: number | null = null;
  /** The hub has said when to come back. */
  #retryMs: number | null = null;

  constructor(parts: HubSessionParts, url: string) {
    this.#parts = parts;
    this.#handshake = parts.handshake;
    this.#memory = parts.memory;
    this.#url = url;
  }

  get connectedTo(): string | null {
    return this.#link === null ? null : this.#url;
  }

  /** Why the hub takes nothing at the moment. */
  get stalled(): string | null {
    return this.#stalled;
  }

  /** From connecting to the end. Returns the wait before the next session; null: as the backoff says. */
  async run(): Promise<number | null> {
    const { clock, network } = this.#parts.platform;
    this.#memory.notAHub = false;
    await this.#handshake.prepare();
    this.#connecting = new AbortController();
    const connection = await network.connect(dialAddress(parseHubUrl(this.#url)), {
      timeoutMs: CONNECT_TIMEOUT_MS,
      signal: this.#connecting.signal,
    });
    if (this.#stopped || this.#parts.standing.paused) {
      connection.destroy();
      return null;
    }
    await new Promise<void>((resolve) => {
      const hello = this.#handshake.hello();
      const over = (fault: Fault | null): void => {
        this.#closed(fault);
        resolve();
      };
      const link: FrameLink = new FrameLink({
        connection,
        clock,
        beat: () => this.#beat(),
        handlers: {
          welcome: (welcome) => {
            this.#welcomed(link, hello, welcome, over).catch((fault: unknown) => {
              this.#failed(link, fault);
            });
          },
          refuse: (refuse) => {
            this.#refusedBy(refuse);
          },
          closed: over,
        },
      });
      this.#link = link;
      link.sendControl(FrameType.Hello, hello);
    });
    return this.#memory.refused ? (this.#retryMs ?? REFUSED_RETRY_MS) : this.#retryMs;
  }

  /** Not to be connected any more, or to end. */
  stop(reason: string): void {
    this.#stopped = true;
    this.#connecting?.abort();
    this.#link?.end(reason);
  }

  /** Ends in order, once it is connected. */
  end(reason: string): void {
    this.#link?.end(reason);
  }

  /** Ends in this turn. Returns whether records flowed until now. */
  leave(why: string): boolean {
    const link = this.#link;
    if (link === null) return false;
    const didFlow = link.isOpen && this.#parts.mirror.linked;
    this.#closed(null);
    this.#memory.reason = why;
    link.end(why);
    return didFlow;
  }

  /** Tells the hub how things are now instead of with the next beat. */
  reportNow(): void {
    if (this.#parts.mirror.linked) this.#link?.sendControl(FrameType.Beat, this.#beat());
  }

  #closed(fault: Fault | null): void {
    if (this.#link === null) return;
    this.#link = null;
    this.#stalled = null;
    this.#parts.hashes.linkDown();
    this.#parts.mirror.packer.linkDown();
    this.#parts.mirror.linkDown();
    this.#memory.notAHub = fault?.code === NO_FRAME && !this.#isHub;
    if (this.#memory.notAHub) this.#memory.reason = `${fault?.message ?? ''}: ${WHICH_PORT}`;
    else if (!this.#memory.refused) this.#memory.reason = fault === null ? 'the hub ended the session' : fault.message;
    if (this.#parts.standing.paused) this.#memory.reason = 'paused';
  }

  /** A bug of ours: mirroring stops, guest I/O goes on (promise FAIL-OPEN). */
  #failed(link: FrameLink, fault: unknown): void {
    this.#parts.mirror.fail(fault);
    link.end(`internal error: ${asError(fault).message}`);
  }

  #refusedBy(refuse: Refuse): void {
    this.#isHub = true;
    this.#retryMs = refuse.retryAfterMs;
    this.#memory.reason = `refused by the hub: ${refuse.message}`;
    this.#memory.refused = refuse.retryAfterMs === null;
    this.#memory.replaced ||= REPLACED_CODES.has(refuse.code);
    this.#parts.log.warn('refused-by-hub', { code: refuse.code, reason: refuse.message });
    if (Standing.isBarring(refuse.code)) this.#bar(this.#memory.reason);
    // The hub holds other records under our numbers: what the window says of it is not to be believed.
    if (CHAIN_CODES.has(refuse.code)) this.#handshake.doubtWindow();
  }

  /** Stays away, across restarts too, until the operator says `resume`. */
  #bar(why: string, divergence: Divergence | null = null): void {
    this.#memory.refused = true;
    this.#parts.standing.bar(why, divergence).catch((fault: unknown) => {
      this.#parts.log.error('identity-not-saved', { fault: String(fault) });
    });
  }

  async #welcomed(
    link: FrameLink,
    hello: Hello,
    welcome: Welcome,
    closed: (fault: Fault | null) => void,
  ): Promise<void> {
    const { log, mirror, standing } = this.#parts;
    const memory = this.#memory;
    this.#isHub = true;
    const verdict = decideLineage(hello, welcome.group);
    memory.hub = { id: welcome.hubId, epoch: welcome.epoch };
    memory.lastVerdict = verdict.row;
    memory.replaced = verdict.row === REPLACED_ROW;
    memory.everConsistent = welcome.group !== null && welcome.group.consistentNumber !== null;
    this.#features = commonFeatures(welcome.features, mirror.packer.features);
    this.#comparesAll = verdict.kind === 'first-sync' || verdict.kind === 'compare-everything';
    log.info('verdict', { verdict: verdict.kind, row: verdict.row, reason: fullReason(verdict) });
    link.setHeartbeat(welcome.heartbeatMs, welcome.timeoutMs);
    if (verdict.kind === 'refuse' || verdict.kind === 'superseded' || verdict.kind === 'split-brain') {
      memory.refused = true;
      memory.reason = `${verdict.kind}: ${verdict.reason}${this.#handshake.refused(verdict, welcome)}`;
      if (Standing.isBarring(verdict.row)) this.#bar(memory.reason, verdict.divergence ?? null);
      mirror.leaveStep();
      link.refuse(new LinkFault('lineage', `${verdict.kind}: ${fullReason(verdict)}`), null);
      return;
    }
    memory.refused = false;
    const misfit = giveUpForeign(mirror, verdict, welcome);
    if (misfit !== null) {
      link.end(misfit);
      return;
    }
    try {
      await this.#handshake.carryOut(verdict, welcome);
      await standing.reserve(mirror.lastNumber);
    } catch (thrown) {
      link.refuse(new LinkFault('marks-not-durable', asError(thrown).message), null);
      return;
    }
    if (this.#link === null || !link.isOpen) return;
    this.#listenTo(link, closed);
    link.sendControl(FrameType.Start, {
      verdict: verdict.kind,
      row: verdict.row,
      firstNumber: firstNumberOf(verdict),
    });
  }

  /** What may come once Start has been said. */
  #listenTo(link: FrameLink, closed: (fault: Fault | null) => void): void {
    const { mirror } = this.#parts;
    link.use({
      ack: (ack) => {
        this.#up(link);
        mirror.checkAcknowledged(ack.received, ack.durable);
        this.#stalled = ack.stalled;
        mirror.acknowledged(ack.received, ack.durable);
        this.#parts.acknowledged(ack.durable);
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
        const { findings } = this.#parts;
        if (this.#features.includes(KEPT_EVENTS_FEATURE)) findings.kept(beat.kept ?? []);
        else if (beat.echoMs !== null) findings.heard(beat.echoMs);
      },
      drained: () => {
        mirror.pump();
      },
      closed,
    });
  }

  /** The hub has accepted Start: records flow. */
  #up(link: FrameLink): void {
    const { mirror, log } = this.#parts;
    if (mirror.linked) return;
    this.#memory.reason = null;
    this.#memory.sessions++;
    log.info('link-up', { hub: this.#memory.hub?.id ?? '', url: this.connectedTo ?? '' });
    const canHash = this.#features.includes(HASHES_FEATURE);
    if (canHash) {
      this.#parts.hashes.linkUp((request) => {
        // The hub answers for a number: what it rests on goes ahead of the question.
        mirror.hurry();
        link.sendControl(FrameType.HashRegion, request);
      });
    }
    const pressure = pressureOf(link, mirror);
    mirror.packer.linkUp(this.#features, isLocalHub(this.connectedTo ?? ''), pressure);
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

  #beat(): Beat {
    const { clock } = this.#parts.platform;
    return {
      sentMs: clock.monotonicMs(),
      echoMs: this.#echoMs,
      unixMs: clock.unixMs(),
      report: this.#parts.report(),
    };
  }

  async #readRegion(link: FrameLink, request: ReadRegion): Promise<void> {
    const refusal = await readRegion(this.#parts.volumes, this.#parts.mirror, request);
    if (refusal !== null) link.sendControl(FrameType.RegionRefused, { tag: request.tag, ...refusal });
  }
}
