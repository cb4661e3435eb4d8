/** Faults that a test injects into the simulated disk: which operation, on which file, when and how often. */
import { StorageFault } from '../errors.js';
import type { SeededRandomness } from './randomness.js';

export type SimOperation =
  | 'open'
  | 'status'
  | 'list'
  | 'make-directory'
  | 'rename'
  | 'remove'
  | 'sync-directory'
  | 'lock'
  | 'room'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'allocate'
  | 'punch'
  | 'next-data'
  | 'close';

export type SimFault =
  | 'disk-full'
  | 'quota'
  | 'io-error'
  | 'read-only'
  | 'no-permission'
  | 'too-many-files'
  | 'not-found'
  /** Only reads: half of the bytes come. */
  | 'short-read'
  /** Only reads: one bit of what comes is wrong. */
  | 'flip-bit';

export interface FaultRule {
  readonly operation: SimOperation;
  /** A path that ends so, or matches; any when left out. */
  readonly path?: string | RegExp;
  /** Matching operations that go well before the first fault; 0 when left out. */
  readonly skip?: number;
  /** How many then fail; 1 when left out, `Infinity` for ever. */
  readonly times?: number;
  /** Of those, the part that is struck, drawn from the disk's seed; 1 when left out. */
  readonly chance?: number;
  /**
   * What happens. A `write` that fails has written a part of its bytes. A failed `sync` loses what it
   * should have stored: the disk never gets it, and readers see it until the cache is evicted.
   */
  readonly fault: SimFault;
  /** How many of its bytes a failing write has written; half when left out. */
  readonly writtenBytes?: (lengthBytes: number) => number;
  /** A failing sync drops the pages at once, so that readers get the old bytes (some file systems do so). */
  readonly evicts?: boolean;
}

export interface InjectedFault {
  /** How often it has struck. */
  readonly hits: number;
  remove(): void;
}

interface ActiveRule {
  readonly rule: FaultRule;
  seen: number;
  hits: number;
}

export class FaultRules {
  #active: ActiveRule[] = [];
  readonly #randomness: SeededRandomness;

  constructor(randomness: SeededRandomness) {
    this.#randomness = randomness;
  }

  inject(rule: FaultRule): InjectedFault {
    const active: ActiveRule = { rule, seen: 0, hits: 0 };
    this.#active.push(active);
    return {
      get hits() {
        return active.hits;
      },
      remove: () => {
        this.#active = this.#active.filter((other) => other !== active);
      },
    };
  }

  /** The rule that strikes this operation, or null. */
  strike(operation: SimOperation, path: string): FaultRule | null {
    for (const active of this.#active) {
      const { rule } = active;
      if (rule.operation !== operation || !matches(rule.path, path)) continue;
      active.seen += 1;
      if (active.seen <= (rule.skip ?? 0) || active.hits >= (rule.times ?? 1)) continue;
      if (rule.chance !== undefined && !this.#randomness.chance(rule.chance)) continue;
      active.hits += 1;
      return rule;
    }
    return null;
  }
}

/** What the operation throws for it. */
export function injectedFault(fault: SimFault, operation: SimOperation, path: string): StorageFault {
  return new StorageFault(fault, `cannot ${operation} ${path}: ${fault} (injected)`, {
    retryable: fault === 'disk-full' || fault === 'quota',
  });
}

function matches(pattern: string | RegExp | undefined, path: string): boolean {
  if (pattern === undefined) return true;
  return typeof pattern === 'string' ? path.endsWith(pattern) : pattern.test(path);
}
