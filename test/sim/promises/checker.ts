/** What a promise's checker may listen to. Each file in this folder checks one promise, and is named by it. */
import { type LogFields } from '@rephub/platform';
import { type CrashFate } from '@rephub/platform/sim';
import { type Ack, type Hello, type Refuse, type Verdict, type Welcome } from '@rephub/protocol';
import { type WireRecord } from '../wire-records.js';
import { type Answered } from '../workload.js';

export interface Crash {
  readonly who: 'agent' | 'hub' | 'upstream';
  /** `keep`: the process was killed; else its host lost power. */
  readonly fate: CrashFate;
}

/** One look at the replica, as the hub serves it. */
export interface Look {
  readonly number: number;
  /** What it shows: block ids by volume; a volume that the point does not have is left out. */
  readonly shown: readonly (Int32Array | null)[];
  /** What it must show by the records on the wire; null when the chain is not known to its beginning. */
  readonly fold: readonly Int32Array[] | null;
}

/** A moment's worth of what a crash everywhere would leave. */
export interface Checker {
  /** A guest's request was answered. */
  answered?(answer: Answered): void;
  /** The agent has put a record on the wire for the first time. */
  sent?(record: WireRecord, agentTimeUs: number): void;
  hubAcked?(ack: Ack): void;
  /** The agent tries to reach the hub. */
  dialled?(): void;
  agentHeard?(): void;
  verdict?(verdict: Verdict, hello: Hello, welcome: Welcome): void;
  refused?(refuse: Refuse, from: 'agent' | 'hub'): void;
  spoiled?(link: number): void;
  linkClosed?(link: number): void;
  logged?(event: string, fields: LogFields): void;
  /** A flush that failed has given up what readers see of these blocks. */
  dropped?(volume: number, block: number, blocks: number): void;
  /** Right after a crash: the disks are as the next start will find them. */
  crashed?(crash: Crash): void;
  /** Something that the hub has stored has gone bad, right after its crash. */
  hubRotted?(): void;
  /** Often: cheap things. */
  moment?(): void;
  /** About once a second. */
  second?(): void;
  /** The replica has been read. */
  looked?(look: Look): void;
  /** Everything is healed, and should be equal. */
  converged?(look: Look, upstream: readonly Int32Array[]): void;
}
