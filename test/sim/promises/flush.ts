/** FLUSH: what was acknowledged before a flush, or with FUA, is on stable storage upstream whatever crashes. */
import { Command, NbdError } from '@rephub/nbd';
import { type LogFields } from '@rephub/platform';
import { BLOCK_BYTES } from '../block-content.js';
import { upstreamContents } from '../disk-contents.js';
import { type Answered } from '../workload.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';
import { Unplayed } from './unplayed.js';

/** An answer takes no longer to arrive. */
const TOLD_WITHIN_MS = 50;
/** Until a process has noted what it was told for the next one. */
const NOTED_WITHIN_MS = 50;

/** What a flush that failed has given up. */
interface Dropped {
  readonly volume: number;
  readonly block: number;
  readonly blocks: number;
  readonly atMs: number;
  /** When the process that sent the flush was told of its failure. */
  toldMs: number | null;
}

export class Flush implements Checker {
  readonly #world: World;
  readonly #lost: Unplayed;
  /** As long as it is not played again, and the process that sent the flush is there. */
  #unplayed: Dropped[] = [];
  /** That process has noted it for the next one, which is to tell the guest. */
  #noted: Dropped[] = [];
  /** Volumes whose next flush must fail. */
  readonly #owed = new Set<number>();

  constructor(world: World) {
    this.#world = world;
    this.#lost = new Unplayed(world);
  }

  logged(event: string, fields: LogFields): void {
    this.#lost.logged(event, fields);
    const { volume, offset, length } = fields;
    const { history, setup } = this.#world;
    const index = setup.volumes.findIndex(({ name }) => name === volume);
    // What an earlier process wrote, or what is not kept, is not at hand to be played again.
    if (event === 'upstream-sync-failed') {
      for (const dropped of this.#unplayed) if (dropped.volume === index) dropped.toldMs ??= this.#world.nowMs;
      history.giveUp(index, (operation) => !this.#world.isAtHand(operation));
    }
    if (event === 'upstream-back') {
      this.#unplayed = this.#unplayed.filter((dropped) => dropped.volume !== index || dropped.toldMs === null);
    }
    if (event === 'doubts-recalled' && fields['flushErrorOwed'] === true) this.#owed.add(index);
    if (event !== 'replay-refused') return;
    const [from, to] = [Number(offset) / BLOCK_BYTES, (Number(offset) + Number(length)) / BLOCK_BYTES];
    history.giveUp(index, ({ block, blocks }) => block < to && from < block + blocks);
  }

  /** The guest has been told. */
  answered({ command, volume, error }: Answered): void {
    if (command !== Command.Flush || error === 0 || error === NbdError.Eshutdown || !this.#owed.delete(volume)) return;
    this.#noted = this.#noted.filter((dropped) => dropped.volume !== volume);
    this.#world.history.giveUp(volume, (operation) => !this.#world.isAtHand(operation));
  }

  /** The process that sent the flush is gone, or goes before it is told: no later one can know. */
  dropped(volume: number, block: number, blocks: number): void {
    const { agent, nowMs } = this.#world;
    this.#unplayed.push({ volume, block, blocks, atMs: nowMs, toldMs: null });
    if (agent.up === null) this.#agentGone();
  }

  #agentGone(): void {
    const { nowMs } = this.#world;
    for (const dropped of this.#unplayed) {
      const { atMs, toldMs } = dropped;
      if (toldMs !== null && toldMs < nowMs - NOTED_WITHIN_MS) this.#noted.push(dropped);
      else if (toldMs !== null || atMs >= nowMs - TOLD_WITHIN_MS) this.#giveUp(dropped);
    }
    this.#unplayed = [];
  }

  #giveUp({ volume, block, blocks }: Dropped): void {
    this.#world.history.giveUp(
      volume,
      (operation) => operation.block < block + blocks && block < operation.block + operation.blocks,
    );
  }

  crashed(crash: Crash): void {
    const { who, fate } = crash;
    const world = this.#world;
    if (who === 'agent') this.#agentGone();
    // A note that was lost tells nobody.
    if (world.excuses.stateDamaged) for (const dropped of this.#noted.splice(0)) this.#giveUp(dropped);
    const { setup, history } = world;
    if (who === 'hub') return;
    const isPlayedLater = who === 'upstream' && this.#lost.isPlayedLater;
    const upstream = upstreamContents(world);
    const lost = setup.volumes.map(({ upstream: kind }, index) =>
      // What upstream has lost, the agent would have played again: with it goes what only it knew.
      who === 'agent'
        ? kind === 'file'
          ? fate !== 'keep'
          : this.#lost.hasLost(index)
        : kind === 'nbd' && fate !== 'keep',
    );
    for (const [volume, isLost] of lost.entries()) {
      if (isLost) this.#survived(volume, upstream[volume]);
      // What an earlier process wrote nobody plays again.
      if (isLost && isPlayedLater) history.giveUp(volume, (operation) => !world.isAtHand(operation));
    }
    this.#lost.crashed(crash);
    if (who === 'agent') history.closeOpen(() => true, world.nowMs);
    const moment = history.tick();
    for (const [volume, isLost] of lost.entries()) {
      if (!isLost || isPlayedLater) continue;
      const disk = world.disks.get(setup.volumes[volume]?.name ?? '');
      // What the agent was playing again arrives after its end.
      if (disk === undefined || disk.inFlight === 0) this.#found(volume, upstream[volume], moment);
      else void disk.whenIdle().then(() => this.#found(volume, upstreamContents(world)[volume], history.tick()));
    }
  }

  #found(volume: number, contents: Int32Array | undefined, moment: number): void {
    const { disks, history, nowMs, setup } = this.#world;
    const disk = disks.get(setup.volumes[volume]?.name ?? '');
    for (const [block, content] of (contents ?? []).entries()) {
      // What the agent played again before its end may be lost once more.
      history.found(volume, block, content, disk?.isUnflushed(block) !== true, moment, nowMs);
    }
  }

  #survived(volume: number, contents: Int32Array | undefined): void {
    const world = this.#world;
    for (const [block, content] of (contents ?? []).entries()) {
      if (world.history.survives(volume, block, content, true)) continue;
      const asked = world.history.tell(volume, block);
      world.check('FLUSH', false, () => {
        return `after a power cut block ${volume}:${block} holds ${world.contents.describe(content)}; asked: ${asked}`;
      });
      return;
    }
    world.check('FLUSH', true, () => '');
  }
}
