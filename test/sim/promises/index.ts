/** All promises: which are checked, by what, and why some are not. */
import { type World } from '../world.js';
import { type Checker } from './checker.js';
import { Convergence } from './convergence.js';
import { Durable } from './durable.js';
import { Flush } from './flush.js';
import { Guest } from './guest.js';
import { Modes } from './modes.js';
import { Replay } from './replay.js';
import { Replica } from './replica.js';
import { Stream } from './stream.js';
import { Superset } from './superset.js';
import { Told } from './told.js';

export { type Checker, type Crash, type Look } from './checker.js';
export { Unheard } from './unheard.js';

/** Null: checked in every run. Else why it is not. */
export const PROMISES = {
  GUEST: null,
  'FAIL-OPEN': null,
  FLUSH: null,
  OUTAGE: null,
  REPLAY: null,
  ACK: null,
  BOUND: null,
  ORD: null,
  FAILWR: null,
  TRIM: null,
  LASTGOOD: null,
  PIT: null,
  SIZE: null,
  SUPERSET: null,
  CLEAR: null,
  NOFULL: null,
  LINEAGE: null,
  SPAN: null,
  CORRUPT: null,
  DURABLE: null,
  TORN: null,
  FULL: null,
  ISOLATE: null,
  COMMIT: 'failover is not built yet',
  FENCE: 'failover is not built yet',
  NODISCARD: null,
  RPO: null,
  FRAME: null,
  BEAT: null,
  UPGRADE: 'there is no version before this one yet',
  /** Not of the promises, but of what they rest on: the catalogue is an index, and tells what the log and the files say. */
  CATALOGUE: null,
} as const satisfies Record<string, string | null>;
export type PromiseId = keyof typeof PROMISES;

export const CHECKED: readonly PromiseId[] = (Object.keys(PROMISES) as PromiseId[]).filter(
  (id) => PROMISES[id] === null,
);

export function makeCheckers(world: World): readonly Checker[] {
  // Flush comes after Superset: it closes what a crash has left open.
  return [
    new Guest(world),
    new Superset(world),
    // So does Told come before Flush.
    new Told(world),
    new Flush(world),
    // It gives up what is refused when it is played again.
    new Replay(world),
    new Stream(world),
    new Durable(world),
    new Modes(world),
    new Replica(world),
    new Convergence(world),
  ];
}
