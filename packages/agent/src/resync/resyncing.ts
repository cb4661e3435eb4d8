/**
 * What brings the hub to where upstream is, and looks whether it is there: copying in spans, comparing by checksum,
 * verifying, the sample at the start. All that reads upstream in the background is here.
 *
 * Always holds: a span has a cause, told before its first block is copied, and so have the volumes that the hub does not
 * know; whoever makes everything dirty says why, and whether it is compared first.
 * Must not know: guests, sockets, when a session begins.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Logger, type Platform } from '@rephub/platform';
import { SAMPLE_CAUSE, type VerifyReport } from '@rephub/protocol';
import { BackgroundReads } from './background-reads.js';
import { Comparer } from './comparer.js';
import { type AgentConfig } from '../config.js';
import { Copier, type CopyProgress } from './copier.js';
import { Courtesy } from './courtesy.js';
import { Findings } from './findings.js';
import { type FlushProof } from '../flushes/flush-proof.js';
import { type GuestLatency } from '../guest/guest-latency.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { HashClient } from './hash-client.js';
import { type Marks } from '../mirror/marks.js';
import { type Mirror } from '../mirror/mirror.js';
import { Pace } from './pace.js';
import { type RateCap } from './rate-cap.js';
import { ResyncOrder } from './resync-order.js';
import { StartSample } from './start-sample.js';
import { Verifier } from './verifier.js';

/** Of the link to the hub, what is needed here. */
export interface SpanLink {
  /** `stalled`: why the hub takes nothing; null while it does. */
  readonly status: { readonly stalled: string | null };
  /** Why the span that begins now is needed. */
  takeSpanCause(): string;
  /** The next span is needed because of this. */
  noteSpanCause(cause: string): void;
  /** The volumes that the hub does not know of yet, to be announced within the span that begins. */
  announceVolumes(): void;
  /** Tells the hub how things are now instead of with the next beat. */
  reportNow(): void;
}

export interface ResyncingParts {
  readonly platform: Platform;
  readonly log: Logger;
  readonly config: Pick<AgentConfig, 'granularityBytes' | 'maxBytesPerSecond' | 'verifyBytesPerSecond' | 'startSample'>;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly marks: Marks;
  readonly proof: FlushProof;
  readonly volumes: readonly GuestVolume[];
  /** How long guests' requests take, on all volumes. */
  readonly latency: GuestLatency;
  /** Volumes whose upstream tells by itself whether it was changed: they need no sample. */
  readonly telling: ReadonlySet<string>;
  /** Null without a hub. */
  readonly link: () => SpanLink | null;
  /** Nothing is dirty, and the span has been ended. */
  readonly ended: (progress: CopyProgress) => void;
  readonly unreadable: () => void;
}

export class Resyncing {
  readonly hashes: HashClient;
  readonly comparer: Comparer;
  readonly copier: Copier;
  readonly verifier: Verifier;
  readonly sample: StartSample;
  /** Differences that no hub keeps yet. */
  readonly findings: Findings;
  /** What was asked for, by this process or one before. */
  readonly order: ResyncOrder;
  /** On what is read for copies. */
  readonly cap: RateCap;
  /** How far all of these give way to guests. */
  readonly courtesy: Courtesy;
  readonly #parts: ResyncingParts;

  constructor(parts: ResyncingParts) {
    const { config, latency, link, log, marks, mirror, platform, proof, telling, tracker, volumes } = parts;
    const { clock, randomness } = platform;
    this.#parts = parts;
    const pace = new Pace(clock, config.maxBytesPerSecond);
    this.cap = pace.cap;
    this.courtesy = new Courtesy(latency);
    const reads = new BackgroundReads(clock, this.courtesy);
    const hashes = new HashClient(clock, randomness);
    this.hashes = hashes;
    this.comparer = new Comparer(clock, mirror, hashes);
    this.copier = new Copier({
      clock,
      volumes,
      tracker,
      proof,
      mirror,
      log,
      granularityBytes: config.granularityBytes,
      pace,
      reads,
      comparer: this.comparer,
      ended: (progress) => {
        // Whatever made something dirty meanwhile is served.
        link()?.takeSpanCause();
        this.order.sent();
        parts.ended(progress);
      },
      unreadable: parts.unreadable,
    });
    const tell = (): void => {
      link()?.reportNow();
    };
    this.order = new ResyncOrder(tracker, log);
    this.findings = new Findings(tracker, log, () => clock.monotonicMs());
    const found = (report: VerifyReport): Promise<void> => this.findings.keep(report);
    this.verifier = new Verifier({
      clock,
      log,
      randomness,
      volumes,
      tracker,
      marks,
      mirror,
      hashes,
      reads,
      pace: new Pace(clock, config.verifyBytesPerSecond),
      stalled: () => link()?.status.stalled ?? null,
      found,
      tell,
      noteCause: (cause) => {
        link()?.noteSpanCause(cause);
      },
    });
    this.sample = new StartSample({
      clock,
      log,
      randomness,
      volumes: volumes.filter(({ name }) => !telling.has(name)),
      tracker,
      mirror,
      hashes,
      reads,
      regions: config.startSample,
      found,
      tell,
      compareAll: async (cause) => {
        await this.copyAll(true, cause);
        mirror.wantSpan();
      },
    });
  }

  /**
   * What a process before has found different, and no hub keeps yet, is marked: that one may not have lived to; and everything
   * for an order that it had only begun to mark for, or for a sample that had found something. Durable when it resolves; before a
   * session.
   */
  async recall(): Promise<void> {
    const { log, mirror, tracker } = this.#parts;
    const untold = tracker.found === 'clean' ? [] : this.findings.untold;
    const ordered = this.order.cause === null ? this.#compareFor(untold) : null;
    const marked = ordered ?? this.order.markAgain((cause) => mirror.copyEverything(cause));
    await marked.catch((fault: unknown) => {
      // It stays noted as it is, for the start after this one.
      log.warn('resync-not-noted', { fault: String(fault) });
    });
    await this.verifier.recall(untold);
  }

  /** A sample says that a disk was changed, its few places do not say where else: everything is compared. Null: there is none. */
  #compareFor(untold: readonly VerifyReport[]): Promise<void> | null {
    const sample = untold.findLast(({ cause }) => cause === SAMPLE_CAUSE);
    if (sample === undefined) return null;
    return this.copyAll(true, `a sample of a process before has found ${sample.bytesDiffer} bytes to differ`);
  }

  /** Who reads upstream in the background. */
  get readers(): readonly { stop(): Promise<void> }[] {
    return [this.copier, this.verifier, this.sample];
  }

  /** The mirror can begin a span, and something is dirty. */
  beginSpan(): void {
    const { mirror, tracker } = this.#parts;
    const link = this.#parts.link();
    if (mirror.state === 'span' || link === null) return;
    const cause = link.takeSpanCause();
    // What is compared first is mostly not sent: how much will be nobody knows.
    mirror.beginSpan(cause, this.comparer.isOn ? null : tracker.dirtyBytes);
    link.announceVolumes();
    this.copier.start(cause);
  }

  /**
   * Makes everything dirty: to be compared first, or all sent; `mayWeaken`: also where all was to be sent. Durable when it
   * resolves; the span is the caller's to want.
   */
  async copyAll(compare: boolean, cause: string, mayWeaken = false): Promise<void> {
    const { order } = this;
    const compares = compare && (mayWeaken || !order.isFull);
    if (compares) this.comparer.start();
    else this.comparer.stop();
    await order.give(compares, cause, (given) => {
      this.#parts.link()?.noteSpanCause(given);
      return this.#parts.mirror.copyEverything(cause);
    });
  }
}
