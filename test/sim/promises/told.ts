/**
 * FLUSH, where it cannot be kept: upstream has lost what was acknowledged and not flushed, and the agent, who alone could have
 * written it again, is gone too. Then the guest's next flush fails, whichever process it comes to.
 */
import { Command, NbdError } from '@rephub/nbd';
import { type LogFields } from '@rephub/platform';
import { BLOCK_BYTES } from '../block-content.js';
import { type World } from '../world.js';
import { type Answered } from '../workload.js';
import { type Checker, type Crash } from './checker.js';

/** Until a process has noted for the next one that upstream is away. */
const NOTED_WITHIN_MS = 50;

export class Told implements Checker {
  readonly #world: World;
  /** Volumes whose upstream this process has found away, and since when. */
  readonly #awaySinceMs = new Map<number, number>();
  /** Volumes that have lost something which this process would play, and when. */
  readonly #lostMs = new Map<number, number>();
  /** Volumes whose next flush must fail; and the agent's life that this was noted in. */
  readonly #mustTell = new Map<number, number>();

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { volume }: LogFields): void {
    const { setup, nowMs, upstream } = this.#world;
    const index = setup.volumes.findIndex(({ name }) => name === volume);
    const isAway = event === 'upstream-lost' || event === 'upstream-reopened';
    if (isAway && !this.#awaySinceMs.has(index)) this.#awaySinceMs.set(index, nowMs);
    // The last answers of a server that was killed may come after its end.
    if (event !== 'upstream-back' || upstream.up === null) return;
    this.#awaySinceMs.delete(index);
    this.#lostMs.delete(index);
  }

  crashed({ who, fate }: Crash): void {
    const { agent, disks, excuses, history, setup, nowMs } = this.#world;
    if (who === 'upstream' && fate !== 'keep' && agent.up !== null) {
      for (const [index, { name }] of setup.volumes.entries()) {
        const ranges = disks.get(name)?.unflushedThen ?? [];
        const isLost = history.hasUnflushed(index, false, ({ block, blocks }) =>
          ranges.some(({ offset, length }) => {
            return offset < (block + blocks) * BLOCK_BYTES && block * BLOCK_BYTES < offset + length;
          }),
        );
        if (isLost) this.#lostMs.set(index, nowMs);
      }
    }
    if (who !== 'agent') return;
    for (const index of this.#lostMs.keys()) {
      if ((this.#awaySinceMs.get(index) ?? Infinity) <= nowMs - NOTED_WITHIN_MS)
        this.#mustTell.set(index, excuses.groupBegunAnew);
    }
    this.#awaySinceMs.clear();
    this.#lostMs.clear();
  }

  answered({ command, volume, block, submittedMs, error }: Answered): void {
    if (command !== Command.Flush || error === NbdError.Eshutdown) return;
    const { stateDamaged, groupBegunAnew } = this.#world.excuses;
    const notedIn = this.#mustTell.get(volume);
    // The answer to an earlier one was on its way.
    if (submittedMs >= (this.#lostMs.get(volume) ?? Infinity)) this.#lostMs.delete(volume);
    this.#mustTell.delete(volume);
    // What was noted is lost with the files.
    if (notedIn !== groupBegunAnew || stateDamaged) return;
    this.#world.check('FLUSH', error !== 0, () => {
      return `a flush of volume ${volume} (at ${block}) succeeds, and nobody has told the guest what was lost before`;
    });
  }
}
