/**
 * A volume's upstream has become larger while the agent runs: marks first, durably, then everything else in one turn.
 *
 * Always holds:
 *  - in the turn in which the new size counts, all that is new is marked, the stream is out of step or in a span that has
 *    announced the new size (Resize), and the session with the hub, which was told the old size, is over;
 *  - volumes grow one after the other, and what cannot be admitted stays as it was and is tried again.
 * Must not know: how growing is noticed, who reads what is new.
 */
import { type Tracker } from '@rephub/bitmap';
import { asError, type Logger } from '@rephub/platform';
import { type GuestVolume } from './guest/guest-volume.js';
import { type HubLink } from './link/hub-link.js';
import { type Mirror } from './mirror/mirror.js';
import { type UpstreamWatch } from './upstream-watch.js';
import { type Upstream } from './upstream/upstream.js';

export interface GrowthParts {
  readonly log: Logger;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  /** In the order of `volumes`. */
  readonly upstreams: readonly Upstream[];
  readonly volumes: readonly GuestVolume[];
  readonly watch: UpstreamWatch;
  /** Null without a hub. */
  readonly link: HubLink | null;
}

export class Growth {
  /** Volumes that have grown, in this process. */
  count = 0;
  readonly #parts: GrowthParts;
  readonly #wanted = new Map<number, number>();
  /** What was said of a volume that could not grow; not said again for each look. */
  readonly #said = new Map<number, string>();
  #running: Promise<void> | null = null;
  #stopped = false;

  constructor(parts: GrowthParts) {
    this.#parts = parts;
  }

  /** The upstream at this position can do so many bytes now. Told again as long as it is not admitted. */
  offered(position: number, sizeBytes: number): void {
    if (this.#stopped) return;
    this.#wanted.set(position, sizeBytes);
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** Resolves when no volume is growing. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let next = this.#next(); next !== null && !this.#stopped; next = this.#next()) {
      const [position, sizeBytes] = next;
      const volume = this.#parts.volumes[position];
      const upstream = this.#parts.upstreams[position];
      if (volume === undefined || upstream === undefined || sizeBytes <= volume.sizeBytes) continue;
      try {
        await this.#parts.tracker.grow(volume.index, sizeBytes, () => this.#admitted(volume, upstream, sizeBytes));
        this.#said.delete(position);
        // Whoever made it larger has changed the file; that is no sign of a disk that was changed behind our back.
        await this.#parts.watch.noteGrown();
      } catch (thrown) {
        const reason = asError(thrown).message;
        if (this.#said.get(position) === reason) continue;
        this.#said.set(position, reason);
        this.#parts.log.error('volume-cannot-grow', { volume: volume.name, sizeBytes, reason });
      }
    }
  }

  #next(): [number, number] | null {
    for (const [position, sizeBytes] of this.#wanted) {
      this.#wanted.delete(position);
      return [position, sizeBytes];
    }
    return null;
  }

  /** Marked, durably, in this turn: from here on the new size counts everywhere. */
  #admitted(volume: GuestVolume, upstream: Upstream, sizeBytes: number): void {
    const { link, log, mirror } = this.#parts;
    const before = volume.sizeBytes;
    this.count++;
    log.info('volume-grown', { volume: volume.name, fromBytes: before, toBytes: sizeBytes });
    // The hub was told the old size: no record that knows the new one may reach it in this session.
    link?.leave(`volume ${volume.name} has grown to ${sizeBytes} bytes`);
    upstream.admit(sizeBytes);
    mirror.unknown(volume.index, before, sizeBytes - before);
    link?.noteSpanCause(`volume ${volume.name} has grown from ${before} to ${sizeBytes} bytes`);
    if (mirror.state === 'span') link?.announceVolumes();
  }
}
