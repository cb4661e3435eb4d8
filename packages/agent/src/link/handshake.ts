/**
 * What of one handshake counts in the next: how certain our numbers are, whether the window is to be believed, which
 * volumes the hub knows, and why the span that follows is needed. Says Hello by it, and brings the mirror to where a
 * verdict wants it (promise LINEAGE).
 *
 * Must not know: sockets, when to connect.
 */
import { storeHubNumbers, type Tracker } from '@rephub/bitmap';
import { asError, type Logger, type Platform } from '@rephub/platform';
import { type Hello, type Verdict, type VolumeDescription, type Welcome } from '@rephub/protocol';
import { type Comparer } from '../resync/comparer.js';
import { type AgentConfig } from '../config.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { helloOf } from './hello.js';
import { type Mirror } from '../mirror/mirror.js';
import { type ResyncOrder } from '../resync/resync-order.js';
import { type Standing } from './standing.js';

/** What this process remembers of its own writes does not tell what a hub lacks that begins anew, or came back older. */
const ANEW: ReadonlySet<Verdict['kind']> = new Set(['first-sync', 'compare-everything']);

export interface HandshakeParts {
  readonly platform: Pick<Platform, 'clock' | 'files'>;
  readonly log: Logger;
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly comparer: Comparer;
  readonly order: Pick<ResyncOrder, 'cause' | 'isFull' | 'drop'>;
  readonly volumes: readonly GuestVolume[];
  /** Why a disk counts as changed while no agent ran; null: none does. */
  readonly changedBehind: string | null;
  /** Drawn by this process. */
  readonly nonce: string;
}

export class Handshake {
  readonly #parts: HandshakeParts;
  readonly #standing: Standing;
  /** The volumes as the hub knows them, or will when it has what was sent. */
  readonly #known = new Map<string, VolumeDescription>();
  /** A handshake has been carried out in this process: the mirror's numbers are certain. */
  #numbersKnown = false;
  #everythingMarked = false;
  #windowDoubted = false;
  #spanCause: string | null = null;
  /** When Hello was said, by the monotonic clock. */
  #saidHelloMs = 0;

  constructor(parts: HandshakeParts, standing: Standing) {
    this.#parts = parts;
    this.#standing = standing;
  }

  /** What Hello rests on is durable when it resolves. */
  async prepare(): Promise<void> {
    await this.#standing.noteSession(this.#parts.nonce);
  }

  hello(): Hello {
    const { clock } = this.#parts.platform;
    this.#saidHelloMs = clock.monotonicMs();
    return helloOf({
      ...this.#parts,
      earlierSessions: this.#standing.earlierSessions,
      numbersKnown: this.#numbersKnown,
      lastNumberBefore: this.#standing.lastNumberBefore,
      everythingMarked: this.#everythingMarked,
      windowDoubted: this.#windowDoubted,
      unixMs: clock.unixMs(),
    });
  }

  /** The hub holds other records under our numbers than the window says. */
  doubtWindow(): void {
    this.#windowDoubted = true;
  }

  /** Why the span that begins now is needed; the verdict's row where one asked for it. */
  takeSpanCause(): string {
    const cause = this.#spanCause ?? 'pulled-ahead';
    this.#spanCause = null;
    return cause;
  }

  /** The next span is needed because of this, if no verdict says otherwise. */
  noteSpanCause(cause: string): void {
    this.#spanCause ??= cause;
  }

  /** Volumes that are new, of another size or gone, to be announced within the span that begins. */
  announceVolumes(): void {
    const { mirror, volumes } = this.#parts;
    for (const { index, name } of [...this.#known.values()]) {
      if (volumes.some((volume) => volume.name === name)) continue;
      this.#known.delete(name);
      mirror.announceRemoval(index);
    }
    for (const { index, name, sizeBytes } of volumes) {
      const known = this.#known.get(name);
      if (known?.sizeBytes === sizeBytes) continue;
      this.#known.set(name, { index, name, sizeBytes });
      if (known === undefined) mirror.announceVolume(index, name, sizeBytes);
      else mirror.announceSize(index, sizeBytes);
    }
  }

  /** Brings the mirror to where the verdict wants it. Rejects when marks could not be made durable. */
  async carryOut(verdict: Verdict, welcome: Welcome): Promise<void> {
    const { comparer, mirror, order, tracker } = this.#parts;
    const hub = welcome.group;
    mirror.notBefore(hub?.lastTimeUs ?? 0);
    const inStep = verdict.kind === 'resume' || verdict.kind === 'nothing-to-do';
    if (inStep && hub !== null) {
      // After a resume it will know what the window tells it besides: that was noted when it was announced.
      if (this.#numbersKnown) {
        mirror.resume(hub.lastNumber);
        return;
      }
      // What was ordered since Hello was said is marked by now.
      if (!tracker.anyDirty()) order.drop();
      this.#hubKnows(hub.volumes);
      mirror.inStep(hub.lastNumber, hub.lastChecksum);
      this.#numbersKnown = true;
      return;
    }
    // Marks that another process left are mostly of hot extents, where little differs; marks of this one are of an outage.
    const isDoubtful = verdict.kind === 'compare-everything' || welcome.seeded === true || !this.#numbersKnown;
    if (verdict.kind === 'first-sync') order.drop();
    if (order.isFull || (verdict.kind === 'first-sync' && welcome.seeded !== true)) comparer.stop();
    else if (isDoubtful) comparer.start();
    if (!this.#numbersKnown || ANEW.has(verdict.kind)) mirror.exposedSince(this.#exposedSinceMs(welcome));
    mirror.restartAfter(verdict.previousChecksum, Math.max(verdict.nextNumber, mirror.lastNumber + 1));
    this.#numbersKnown = true;
    this.#hubKnows(hub?.volumes ?? []);
    this.#spanCause = causeOf(verdict, welcome, order.cause);
    if (verdict.kind === 'resync-by-bitmap') return;
    await mirror.copyEverything(verdict.reason);
    this.#everythingMarked = true;
    this.#windowDoubted = false;
  }

  /**
   * The verdict refuses. Where that is for the volumes' numbers, the hub's are stored for the next start: records of this
   * process are numbered already. Returns what is to be said besides the verdict.
   */
  refused(verdict: Verdict, welcome: Welcome): string {
    const { config, log, platform, tracker, volumes } = this.#parts;
    const hub = new Map((welcome.group?.volumes ?? []).map(({ name, index }) => [name, index]));
    const used = new Map(volumes.map(({ name, index }) => [name, index]));
    if (verdict.row !== 'L8-volumes' || !areOtherNumbers(used, hub)) return '';
    const numbers = [...hub].map(([name, number]) => `${name}=${number}`).join(' ');
    storeHubNumbers(platform.files, config.stateDirectory, tracker.identity.agentId, used, hub).then(
      (isStored) => {
        log.warn(isStored ? 'numbers-for-next-start' : 'numbers-not-taken', { numbers });
      },
      (fault: unknown) => {
        log.error('numbers-not-stored', { numbers, reason: asError(fault).message });
      },
    );
    return '; when repagent is started again it takes the numbers of the hub';
  }

  /**
   * No write that the hub lacks was made before this time of the monotonic clock (promise RPO); null when nobody knows. The
   * hub has told their age after Hello was said. A wall clock is not asked: it may have been set back since the last process.
   */
  #exposedSinceMs({ group, exposedMs }: Welcome): number | null {
    if (exposedMs === undefined || group === null || group.consistentNumber === null) return null;
    return this.#saidHelloMs - exposedMs;
  }

  #hubKnows(volumes: readonly VolumeDescription[]): void {
    this.#known.clear();
    for (const volume of volumes) this.#known.set(volume.name, volume);
  }
}

/** A name has another number there, or a number another name. */
function areOtherNumbers(used: ReadonlyMap<string, number>, hub: ReadonlyMap<string, number>): boolean {
  const names = new Map([...hub].map(([name, number]) => [number, name]));
  return [...used].some(
    ([name, number]) => (names.get(number) ?? name) !== name || (hub.get(name) ?? number) !== number,
  );
}

function causeOf(verdict: Verdict, welcome: Welcome, ordered: string | null): string {
  if (ordered !== null) return `${ordered}; gone on with (${verdict.kind}: ${verdict.reason})`;
  if (verdict.kind !== 'first-sync') return `${verdict.kind}: ${verdict.reason}`;
  return welcome.seeded === true ? 'first sync from a seed' : 'first sync';
}
