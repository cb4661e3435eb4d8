/** FLUSH: what was acknowledged before a flush, or with FUA, is on stable storage upstream whatever crashes. */
import { type LogFields } from '@rephub/platform';
import { BLOCK_BYTES } from '../block-content.js';
import { upstreamContents } from '../disk-contents.js';
import { type World } from '../world.js';
import { type Checker, type Crash } from './checker.js';
import { Unplayed } from './unplayed.js';

/** An answer takes no longer to arrive. */
const TOLD_WITHIN_MS = 50;

export class Flush implements Checker {
  readonly #world: World;
  readonly #unplayed: Unplayed;
  /** What flushes that failed have given up, as long as the process that sent them may still be told. */
  #untold: { readonly volume: number; readonly block: number; readonly blocks: number; readonly atMs: number }[] = [];

  constructor(world: World) {
    this.#world = world;
    this.#unplayed = new Unplayed(world);
  }

  logged(event: string, fields: LogFields): void {
    this.#unplayed.logged(event, fields);
    const { volume, offset, length } = fields;
    const { history, setup } = this.#world;
    const index = setup.volumes.findIndex(({ name }) => name === volume);
    // What an earlier process wrote, or what is not kept, is not at hand to be played again.
    if (event === 'upstream-sync-failed') this.#untold = this.#untold.filter((dropped) => dropped.volume !== index);
    if (event === 'upstream-sync-failed') history.giveUp(index, (operation) => !this.#world.isAtHand(operation));
    if (event !== 'replay-refused') return;
    const [from, to] = [Number(offset) / BLOCK_BYTES, (Number(offset) + Number(length)) / BLOCK_BYTES];
    history.giveUp(index, ({ block, blocks }) => block < to && from < block + blocks);
  }

  /** The process that sent the flush is gone, or goes before it is told: no later one can know. */
  dropped(volume: number, block: number, blocks: number): void {
    const { agent, nowMs } = this.#world;
    this.#untold.push({ volume, block, blocks, atMs: nowMs });
    if (agent.up === null) this.#giveUpUntold();
  }

  #giveUpUntold(): void {
    const { history, nowMs } = this.#world;
    for (const { volume, block, blocks, atMs } of this.#untold) {
      if (atMs < nowMs - TOLD_WITHIN_MS) continue;
      history.giveUp(
        volume,
        (operation) => operation.block < block + blocks && block < operation.block + operation.blocks,
      );
    }
    this.#untold = [];
  }

  crashed(crash: Crash): void {
    const { who, fate } = crash;
    const world = this.#world;
    if (who === 'agent') this.#giveUpUntold();
    const { setup, history } = world;
    if (who === 'hub') return;
    const isPlayedLater = who === 'upstream' && this.#unplayed.isPlayedLater;
    const upstream = upstreamContents(world);
    const lost = setup.volumes.map(({ upstream: kind }, index) =>
      // What upstream has lost, the agent would have played again: with it goes what only it knew.
      who === 'agent'
        ? kind === 'file'
          ? fate !== 'keep'
          : this.#unplayed.hasLost(index)
        : kind === 'nbd' && fate !== 'keep',
    );
    for (const [volume, isLost] of lost.entries()) {
      if (isLost) this.#survived(volume, upstream[volume]);
      // What an earlier process wrote nobody plays again.
      if (isLost && isPlayedLater) history.giveUp(volume, (operation) => !world.isAtHand(operation));
    }
    this.#unplayed.crashed(crash);
    if (who === 'agent') history.closeOpen(() => true, world.nowMs);
    const moment = history.tick();
    for (const [volume, isLost] of lost.entries()) {
      if (!isLost || isPlayedLater) continue;
      for (const [block, content] of (upstream[volume] ?? []).entries()) {
        history.found(volume, block, content, moment, world.nowMs);
      }
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
