/**
 * ACK beyond async: while semi-sync is in force an answered write, zeroing or trim has been received by the hub, while sync is, or
 * when it has FUA, it is durable there; so is, in both, what an answered flush covers; all by what the hub itself has said. With
 * `freeze` nothing is changed while it is away.
 */
import { Command } from '@rephub/nbd';
import { type LogFields } from '@rephub/platform';
import { type Ack, FrameType, type Hello, type Verdict, type Welcome } from '@rephub/protocol';
import { type Operation } from '../history.js';
import { type WireRecord } from '../wire-records.js';
import { type World } from '../world.js';
import { type Answered } from '../workload.js';
import { type Checker, type Crash } from './checker.js';

export class Modes implements Checker {
  readonly #world: World;
  #inForce = 'async';
  #sinceMs = 0;
  /** The newest record that carries a guest's write, by the write. */
  readonly #numbers = new Map<number, number>();
  /** Records of the guests' zeroings and trims, by range, and when they left. */
  readonly #zeroed = new Map<string, { readonly number: number; readonly atMs: number }[]>();
  /** Per volume, since the mode is in force: at these moments all changes up to this number had been answered. */
  readonly #answered = new Map<number, { readonly moment: number; readonly through: number }[]>();
  /** The agent has given the hub up; Infinity while it has not. */
  #awaySinceMs = Infinity;
  #received = 0;
  #durable = 0;

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { mode }: LogFields): void {
    if (event === 'hub-away') this.#awaySinceMs = Math.min(this.#awaySinceMs, this.#world.nowMs);
    if (event === 'link-up') this.#awaySinceMs = Infinity;
    if (event !== 'mode' && event !== 'mode-in-force' && event !== 'mode-left') return;
    this.#inForce = event === 'mode-in-force' ? String(mode) : 'async';
    this.#sinceMs = this.#world.nowMs;
    this.#answered.clear();
  }

  crashed({ who }: Crash): void {
    if (who !== 'agent') return;
    this.#inForce = 'async';
    this.#awaySinceMs = Infinity;
    this.#answered.clear();
    this.#zeroed.clear();
  }

  sent({ type, copied, number, contents, volume, block, blocks }: WireRecord): void {
    if (copied) return;
    if (type === FrameType.Zero || type === FrameType.Discard) {
      const range = rangeOf(volume, block, blocks);
      this.#zeroed.set(range, [...(this.#zeroed.get(range) ?? []), { number, atMs: this.#world.nowMs }]);
    }
    for (const content of contents ?? []) if (content > 0) this.#numbers.set(content, number);
  }

  hubAcked({ received, durable }: Ack): void {
    this.#received = received;
    this.#durable = durable;
  }

  /** What Welcome names is durable. */
  verdict(_verdict: Verdict, _hello: Hello, { group }: Welcome): void {
    const lastNumber = group?.lastNumber ?? 0;
    this.#received = Math.max(this.#received, lastNumber);
    this.#durable = Math.max(this.#durable, lastNumber);
  }

  answered(answer: Answered): void {
    if (answer.error !== 0) return;
    if (answer.operation !== null) this.#notFrozen(answer);
    if (this.#inForce === 'async' || answer.submittedMs <= this.#sinceMs) return;
    if (answer.operation !== null) this.#changed(answer, answer.operation);
    else if (answer.command === Command.Flush) this.#flushed(answer);
  }

  #changed({ volume }: Answered, operation: Operation): void {
    const mode = this.#inForce;
    const number = this.#numberOf(operation);
    const reached = mode === 'sync' || operation.fua ? this.#durable : this.#received;
    this.#world.check('ACK', number !== undefined && number <= reached, () => {
      const record = number === undefined ? 'has no record' : `is record ${number}`;
      return `${operation.kind} ${operation.id} was answered in ${mode}, and ${record}; the hub has received ${this.#received}, durable are ${this.#durable}`;
    });
    this.#world.coverage.happened(mode);
    const before = this.#answered.get(volume) ?? [];
    before.push({ moment: operation.ended, through: Math.max(number ?? 0, before.at(-1)?.through ?? 0) });
    this.#answered.set(volume, before);
  }

  #flushed({ volume, submitted }: Answered): void {
    const covered = this.#answered.get(volume)?.findLast(({ moment }) => moment < submitted)?.through ?? 0;
    this.#world.check('ACK', covered <= this.#durable, () => {
      return `a flush of volume ${volume} was answered in ${this.#inForce}, and covers record ${covered}; durable are ${this.#durable}`;
    });
  }

  /** While the hub is away no change that came since passes. */
  #notFrozen({ volume, block, submittedMs }: Answered): void {
    if (this.#world.setup.onDisconnect !== 'freeze') return;
    this.#world.check('ACK', submittedMs <= this.#awaySinceMs, () => {
      return `a change of block ${volume}:${block} was answered, which came when the hub had been away since ${this.#awaySinceMs} ms`;
    });
  }

  /** Of a zeroing or trim the oldest that it may be: two of the same range look alike. */
  #numberOf({ id, kind, volume, block, blocks, submittedMs }: Operation): number | undefined {
    if (kind === 'write') return this.#numbers.get(id);
    return this.#zeroed.get(rangeOf(volume, block, blocks))?.find(({ atMs }) => atMs >= submittedMs)?.number;
  }
}

function rangeOf(volume: number, block: number, blocks: number): string {
  return `${volume}:${block}+${blocks}`;
}
