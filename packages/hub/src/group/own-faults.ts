/**
 * What goes wrong in a group itself: a bug of ours, not its disk, nor its agent. It is told and shown in the group's status,
 * until the hub is started again; other groups notice nothing of it.
 *
 * Always holds: nothing thrown here is thrown on, and the same is told once a minute at most.
 * Must not know: what the group was doing.
 */
import { asError, type Clock } from '@rephub/platform';
import type { Tell } from '../events/events.js';

const TELL_AGAIN_MS = 60_000;
/** Of different ones so many are remembered as told. */
const MOST_REMEMBERED = 100;

export class OwnFaults {
  readonly #clock: Clock;
  readonly #tell: Tell;
  readonly #toldAtMs = new Map<string, number>();
  #newest: string | null = null;

  constructor(clock: Clock, tell: Tell) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** What and where; null while nothing has gone wrong. */
  get newest(): string | null {
    return this.#newest;
  }

  /** `doing`: for people, what was being done. */
  caught(doing: string, thrown: unknown): void {
    const error = asError(thrown);
    const said = `${doing}: ${error.message}`;
    this.#newest = said;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - (this.#toldAtMs.get(said) ?? -Infinity) < TELL_AGAIN_MS) return;
    if (this.#toldAtMs.size >= MOST_REMEMBERED) this.#toldAtMs.clear();
    this.#toldAtMs.set(said, nowMs);
    this.#tell('error', 'internal-error', said, { stack: error.stack?.slice(0, 2000) ?? null });
  }

  /** Does the work; what it throws ends here. */
  wall(doing: string, work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.caught(doing, thrown);
    }
  }

  /** The same for what nobody waits for. */
  wallLater(doing: string, work: () => Promise<void>): void {
    this.wall(doing, () => {
      work().catch((thrown: unknown) => {
        this.caught(doing, thrown);
      });
    });
  }
}
