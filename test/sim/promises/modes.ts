/**
 * ACK beyond async: while semi-sync is in force an answered write has been received by the hub, while sync is, or when the write
 * has FUA, it is durable there; both by what the hub itself has said.
 */
import { type LogFields } from '@rephub/platform';
import { type Ack, FrameType, type Hello, type Verdict, type Welcome } from '@rephub/protocol';
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
  #received = 0;
  #durable = 0;

  constructor(world: World) {
    this.#world = world;
  }

  logged(event: string, { mode }: LogFields): void {
    if (event !== 'mode' && event !== 'mode-in-force' && event !== 'mode-left') return;
    this.#inForce = event === 'mode-in-force' ? String(mode) : 'async';
    this.#sinceMs = this.#world.nowMs;
  }

  crashed({ who }: Crash): void {
    if (who === 'agent') this.#inForce = 'async';
  }

  sent({ type, copied, number, contents }: WireRecord): void {
    if (type !== FrameType.Write || copied || contents === null) return;
    for (const content of contents) if (content > 0) this.#numbers.set(content, number);
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

  answered({ error, operation, submittedMs }: Answered): void {
    if (error !== 0 || operation?.kind !== 'write' || this.#inForce === 'async' || submittedMs <= this.#sinceMs) return;
    const mode = this.#inForce;
    const number = this.#numbers.get(operation.id);
    const reached = mode === 'sync' || operation.fua ? this.#durable : this.#received;
    this.#world.check('ACK', number !== undefined && number <= reached, () => {
      const record = number === undefined ? 'has no record' : `is record ${number}`;
      return `write ${operation.id} was answered in ${mode}, and ${record}; the hub has received ${this.#received}, durable are ${this.#durable}`;
    });
    this.#world.coverage.happened(mode);
  }
}
