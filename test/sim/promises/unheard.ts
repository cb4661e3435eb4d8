/**
 * What a failed flush has dropped without any process that lived to hear of it, and note it for the next one: readers see
 * what was written there until upstream loses power, then what was there before, and nobody can know. Only verifying finds it.
 */
import { type LogFields } from '@rephub/platform';
import { type World } from '../world.js';
import { type Crash } from './checker.js';

/** An answer takes no longer to arrive. */
const HEARD_WITHIN_MS = 50;
/** Until a process has noted what it heard for the next one. */
const NOTED_WITHIN_MS = 50;

export class Unheard {
  readonly #world: World;
  /** Flushes that failed, by whoever was there to be told. */
  readonly #heard: { readonly volume: string; readonly atMs: number }[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { volume }: LogFields): void {
    if (event === 'upstream-sync-failed') this.#heard.push({ volume: String(volume), atMs: this.#world.nowMs });
  }

  crashed({ who }: Crash): void {
    if (who !== 'agent') return;
    // What it heard last may not be noted.
    while ((this.#heard.at(-1)?.atMs ?? -Infinity) > this.#world.nowMs - NOTED_WITHIN_MS) this.#heard.pop();
  }

  /** An earlier process has written the block, and a flush has dropped it unheard. */
  has(volume: number, block: number): boolean {
    const { setup, disks, history, agent } = this.#world;
    const name = setup.volumes[volume]?.name ?? '';
    const sinceMs = disks.get(name)?.droppedSinceMs(block) ?? null;
    const last = history.last(volume, block);
    if (sinceMs === null || (last !== null && last.submittedMs >= agent.startedMs)) return false;
    return !this.#heard.some(
      ({ volume: of, atMs }) => of === name && atMs >= sinceMs && atMs <= sinceMs + HEARD_WITHIN_MS,
    );
  }

  /** There is such a block, and a power cut has made it differ from what was read of it. */
  get isAnyLost(): boolean {
    const { setup, disks } = this.#world;
    return setup.volumes.some(({ name }, volume) =>
      [...(disks.get(name)?.lostBlocks() ?? [])].some((block) => this.has(volume, block)),
    );
  }
}
