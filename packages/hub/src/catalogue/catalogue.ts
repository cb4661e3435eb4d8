/**
 * The catalogue as the hub sees it: an index of what the data directory holds, for people and tools. No
 * promise rests on it; it is put right from the groups' own files at each start, and lost, or found as it was
 * at an earlier time, without harm.
 *
 * Always holds: nothing here is waited for; an implementation keeps what it is told and writes it later,
 * in batches. A failure to write is told once and harms nothing.
 */
import type { GroupState } from '../storage/index.js';

/** A journal file, as found in the directory. */
export interface SegmentEntry {
  readonly line: string;
  readonly file: string;
  readonly sizeBytes: number;
}

export interface TestEntry {
  readonly group: string;
  readonly name: string;
  readonly openedUnixMs: number;
  readonly seq: number;
  /** Null while it is open. */
  readonly endedUnixMs: number | null;
  readonly end: string | null;
}

export interface Catalogue {
  /**
   * The hub has started and has these groups: others are forgotten, and tests that are noted as open have ended with the
   * hub that had them.
   */
  begun(groups: readonly string[]): void;
  /** What is there of one group; replaces what was known. */
  group(state: GroupState, segments: readonly SegmentEntry[]): void;
  forgotten(group: string): void;
  test(entry: TestEntry): void;
  /** Writes what is kept back. */
  flush(): void;
  close(): void;
}

/** Keeps nothing: for tests, simulation, and when the file cannot be opened. */
export function noCatalogue(): Catalogue {
  return {
    begun: () => undefined,
    group: () => undefined,
    forgotten: () => undefined,
    test: () => undefined,
    flush: () => undefined,
    close: () => undefined,
  };
}
