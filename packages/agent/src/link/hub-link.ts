/**
 * The agent's side of the link: who is to be reached and whether, by the operator's word and the hub's; one session at a time
 * (hub-session.ts), come back to for ever (returning.ts). Keeps what a session leaves to the next.
 *
 * Always holds: an agent that is paused or barred stays away until the operator says otherwise (promise LINEAGE); a number
 * is used only while it is reserved.
 *
 * Must not know: NBD clients, how a handshake goes, how content is copied.
 */
import { type Tracker } from '@rephub/bitmap';
import { randomUuid } from '@rephub/platform';
import { PAUSED_FAREWELL } from '@rephub/protocol';
import { AwayNews } from './away-news.js';
import { type Comparer } from '../resync/comparer.js';
import { type AgentConfig } from '../config.js';
import { Handshake } from './handshake.js';
import { HubSession, type HubSessionParts } from './hub-session.js';
import { type LinkMemory, type LinkStatus, namesHub } from './link-status.js';
import { type ResyncOrder } from '../resync/resync-order.js';
import { Returning } from './returning.js';

const SAVE_DURABLE_MS = 10_000;

export interface HubLinkParts extends Omit<HubSessionParts, 'handshake' | 'memory' | 'acknowledged'> {
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly comparer: Comparer;
  readonly order: ResyncOrder;
  /** See HandshakeParts. */
  readonly changedBehind: string | null;
}

export class HubLink {
  readonly #parts: HubLinkParts;
  readonly #handshake: Handshake;
  readonly #returning: Returning;
  readonly #memory: LinkMemory = {
    reason: 'not connected yet',
    refused: false,
    replaced: false,
    notAHub: false,
    everConsistent: false,
    hub: null,
    sessions: 0,
    lastVerdict: null,
  };
  /** The newest, which may be over. */
  #session: HubSession | null = null;
  #savedDurableAtMs = 0;
  readonly #awayNews = new AwayNews();

  constructor(parts: HubLinkParts) {
    const { config, platform, standing } = parts;
    this.#parts = parts;
    this.#handshake = new Handshake({ ...parts, nonce: randomUuid(platform.randomness) }, standing);
    const sessionParts: HubSessionParts = {
      ...parts,
      handshake: this.#handshake,
      memory: this.#memory,
      acknowledged: (durableNumber) => {
        this.#reserveMore();
        this.#saveDurable(durableNumber);
      },
    };
    this.#returning = new Returning({
      clock: platform.clock,
      randomness: platform.randomness,
      urls: config.hubs,
      staysAway: () => this.#staysAway(),
      session: (url) => {
        this.#session = new HubSession(sessionParts, url);
        return this.#session.run();
      },
      failed: (url, error) => {
        this.#memory.reason = namesHub(error.message, url) ? error.message : `${url}: ${error.message}`;
      },
      waits: (url, delayMs) => {
        this.#tellAway(url, delayMs);
      },
    });
  }

  get status(): LinkStatus {
    const { reason, refused, replaced, everConsistent, hub, sessions, lastVerdict } = this.#memory;
    const { config, mirror, standing } = this.#parts;
    return {
      urls: config.hubs,
      connectedTo: this.#session?.connectedTo ?? null,
      hubId: hub?.id ?? null,
      epoch: hub?.epoch ?? null,
      connected: mirror.linked,
      reason,
      refused,
      replaced,
      paused: standing.paused,
      everConsistent,
      stalled: this.#session?.stalled ?? null,
      sessions,
      lastVerdict,
      divergence: standing.divergence,
    };
  }

  start(): void {
    this.#returning.start();
  }

  async stop(reason: string): Promise<void> {
    const stopped = this.#returning.stop();
    this.#session?.stop(reason);
    await stopped;
  }

  async pause(): Promise<void> {
    await this.#parts.standing.pause();
    this.#parts.log.info('paused');
    this.#parts.mirror.leaveStep();
    this.#session?.end(PAUSED_FAREWELL);
  }

  /** The operator's word to go on, after a pause or after the hub had barred this agent. */
  async resume(): Promise<void> {
    await this.#parts.standing.goOn();
    this.#parts.log.info('resumed');
    this.#memory.refused = false;
    this.#returning.wake();
  }

  /** A span's end is durable: there is a point that can be opened. */
  noteConsistent(): void {
    this.#memory.everConsistent = true;
  }

  /** Why the span that begins now is needed; the verdict's row where one asked for it. */
  takeSpanCause(): string {
    return this.#handshake.takeSpanCause();
  }

  /** Ends the session in this turn and begins another at once: what Hello said is true no longer. */
  leave(why: string): void {
    if (this.#session?.leave(why) === true) this.#returning.returnAtOnce();
  }

  /** Tells the hub how things are now instead of with the next beat. */
  reportNow(): void {
    this.#session?.reportNow();
  }

  /** The next span is needed because of this. */
  noteSpanCause(cause: string): void {
    this.#handshake.noteSpanCause(cause);
  }

  /** The volumes that the hub does not know of yet, to be announced within the span that begins. */
  announceVolumes(): void {
    this.#handshake.announceVolumes();
  }

  /** An outage is tried again every few seconds, for days maybe: what has been said of it is for debugging only. */
  #tellAway(url: string, delayMs: number): void {
    const { log } = this.#parts;
    const { notAHub, reason, sessions } = this.#memory;
    const fields = { url, reason, retryMs: Math.round(delayMs) };
    if (!this.#awayNews.isNews(url, reason, sessions)) log.debug('hub-away', fields);
    else if (notAHub) log.warn('not-a-hub', fields);
    else log.info('hub-away', fields);
  }

  #staysAway(): boolean {
    const { paused, barred } = this.#parts.standing;
    if (!paused && barred === null) return false;
    this.#memory.refused = !paused;
    this.#memory.reason = paused ? 'paused' : `${barred ?? ''}; 'repagent resume' tries again`;
    return true;
  }

  #reserveMore(): void {
    const { log, mirror, standing } = this.#parts;
    standing.reserveMore(mirror.lastNumber)?.catch((fault: unknown) => {
      // Without a reserve no number may be used: writes are only marked until the next handshake.
      log.error('numbers-not-reserved', { fault: String(fault) });
      mirror.leaveStep();
      this.#session?.end('numbers could not be reserved');
    });
  }

  #saveDurable(durableNumber: number): void {
    const { log, platform, tracker } = this.#parts;
    const now = platform.clock.monotonicMs();
    if (now - this.#savedDurableAtMs < SAVE_DURABLE_MS) return;
    this.#savedDurableAtMs = now;
    tracker.saveIdentity({ durableNumber }).catch((fault: unknown) => {
      log.warn('identity-not-saved', { fault: String(fault) });
    });
  }
}
