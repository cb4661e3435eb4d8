/**
 * At each start: was a disk changed while no agent was between? Marks know nothing of that. A `file:` upstream tells by
 * itself (upstream-watch.ts); of others a sample is compared with the hub, once, as soon as the stream is in step.
 *
 * Always holds: a difference is noted durably, logged and told to the hub before anything is done about it, and then everything
 * is compared; what could not be told is said, and is no difference.
 * Must not know: how it is repaired.
 */
import { type Tracker } from '@rephub/bitmap';
import { type Clock, type Logger, type Randomness, randomUuid, sleep } from '@rephub/platform';
import { SAMPLE_CAUSE, type VerifyReport } from '@rephub/protocol';
import { type BackgroundReads } from './background-reads.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type HashClient } from './hash-client.js';
import { type Mirror } from '../mirror/mirror.js';
import { checkRegion, type Region } from './region-check.js';
import { allocationOf, knownPlaces, samplePlan } from './sample-plan.js';
import { VerifyTally } from './verify-tally.js';

/** Regions that are compared at once. */
const LANES = 8;
/** What is marked or not in step is looked at again, so often. */
const ROUNDS = 4;
const SETTLE_MS = 500;
const POLL_MS = 200;

export interface StartSampleParts {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Logger;
  /** Those whose upstream cannot tell by itself. */
  readonly volumes: readonly GuestVolume[];
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly hashes: HashClient;
  readonly reads: BackgroundReads;
  /** Random regions of each volume; 0: no sample is taken. */
  readonly regions: number;
  /** Something differs: resolves when that is noted durably. */
  readonly found: (report: VerifyReport) => Promise<void>;
  /** The report has changed in a way that the hub must know of now. */
  readonly tell: () => void;
  /** Has everything compared. */
  readonly compareAll: (cause: string) => Promise<void>;
}

export class StartSample {
  readonly #parts: StartSampleParts;
  #state: 'wanted' | 'running' | 'over';
  #saidWhyNot = false;
  #stopped = false;
  #tally: VerifyTally | null = null;
  #running: Promise<void> | null = null;

  constructor(parts: StartSampleParts) {
    this.#parts = parts;
    this.#state = parts.regions > 0 && parts.volumes.length > 0 ? 'wanted' : 'over';
  }

  /** Null before there is one. */
  get report(): VerifyReport | null {
    return this.#tally?.report() ?? null;
  }

  /** Records flow to a hub. `comparesAll`: everything is compared or sent anyway; `canHash`: the hub can be asked what it holds. */
  linkUp(comparesAll: boolean, canHash: boolean): void {
    if (this.#state !== 'wanted') return;
    const { log } = this.#parts;
    if (comparesAll) {
      this.#state = 'over';
    } else if (canHash) {
      this.#state = 'running';
      this.#running = this.#run().catch((fault: unknown) => {
        log.error('start-sample-failed', { fault: String(fault) });
      });
    } else if (!this.#saidWhyNot) {
      this.#saidWhyNot = true;
      log.warn('start-sample-not-taken', { reason: 'the hub cannot tell what it holds (an older version)' });
    }
  }

  /** Resolves when nothing is being read. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, compareAll, log, tell } = this.#parts;
    if (!(await this.#inStep())) return;
    const begunMs = clock.monotonicMs();
    const regions = await this.#plan();
    const totals = new Map<string, number>();
    for (const { volume, length } of regions) totals.set(volume.name, (totals.get(volume.name) ?? 0) + length);
    const tally = new VerifyTally(randomUuid(this.#parts.randomness), SAMPLE_CAUSE, totals, this.#time());
    this.#tally = tally;
    let rest = regions;
    for (let round = 1; round <= ROUNDS && rest.length > 0 && (await this.#inStep()); round++) {
      if (round > 1) await sleep(clock, SETTLE_MS);
      rest = await this.#look(tally, rest, round === ROUNDS);
    }
    this.#state = 'over';
    tally.finish(this.#time(), 'the agent has stopped');
    const { bytesTotal, bytesSame, bytesHoles = 0, bytesDiffer, bytesUnknown, differs, reason } = tally.report();
    const level = bytesUnknown > 0 ? 'warn' : 'info';
    const tookMs = Math.round(clock.monotonicMs() - begunMs);
    log[level]('start-sampled', { bytesSame, bytesHoles, bytesDiffer, bytesUnknown, reason: reason ?? '', tookMs });
    if (bytesDiffer === 0) return;
    await this.#parts.found(tally.report());
    const first = differs[0];
    const where = first === undefined ? '' : ` (first at ${first.offset} of ${first.volume})`;
    log.error('changed-behind', {
      bytes: bytesDiffer,
      sampledBytes: bytesTotal - bytesHoles,
      volume: first?.volume,
      offset: first?.offset,
    });
    tell();
    await compareAll(
      `an upstream was changed behind the agent's back, or the replica was: ${bytesDiffer} bytes of a sample differ${where}`,
    );
  }

  /** Waits until the hub can be asked and the stream is in step; false when the agent stops. */
  async #inStep(): Promise<boolean> {
    const { clock, hashes, mirror } = this.#parts;
    while (!this.#stopped && !(hashes.available && mirror.state === 'streaming')) await sleep(clock, POLL_MS);
    return !this.#stopped;
  }

  async #plan(): Promise<Region[]> {
    const { randomness, regions, volumes } = this.#parts;
    const planned: Region[] = [];
    for (const volume of volumes) {
      const places = await knownPlaces(volume.reader);
      const allocation = await allocationOf(volume.reader);
      for (const range of samplePlan(volume.sizeBytes, places, allocation, regions, randomness)) {
        planned.push({ volume, ...range });
      }
    }
    return planned;
  }

  /** Looks at each once; resolves to those that could not be told and may be looked at again. */
  async #look(tally: VerifyTally, regions: readonly Region[], isLast: boolean): Promise<Region[]> {
    const queue = [...regions].reverse();
    const later: Region[] = [];
    const lane = async (): Promise<void> => {
      for (let region = queue.pop(); region !== undefined && !this.#stopped; region = queue.pop()) {
        const checked = await checkRegion(this.#parts, region, () => Promise.resolve());
        if (typeof checked === 'string') {
          if (isLast) tally.unknown(region.volume.name, region.length, checked);
          else later.push(region);
          continue;
        }
        const { name } = region.volume;
        for (const { offset, length } of tally.checked(name, region.offset, checked))
          tally.differs(name, offset, length);
        // What an answer left out of a long hole is looked at next.
        const { coveredBytes } = checked;
        const rest = region.length - coveredBytes;
        if (rest > 0) queue.push({ volume: region.volume, offset: region.offset + coveredBytes, length: rest });
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    return later;
  }

  #time(): string {
    return new Date(this.#parts.clock.unixMs()).toISOString();
  }
}
