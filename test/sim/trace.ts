/**
 * What happened, in order: the newest lines for a failure's report, a running checksum that tells whether two runs were the
 * same, and all of it when asked for.
 */
import { crc32 } from 'node:zlib';

const KEPT = 120;

export class Trace {
  readonly #nowMs: () => number;
  readonly #print: ((line: string) => void) | null;
  readonly #newest: string[] = [];
  #checksum = 0;
  lines = 0;

  /** `print` gets every line. */
  constructor(nowMs: () => number, print: ((line: string) => void) | null) {
    this.#nowMs = nowMs;
    this.#print = print;
  }

  add(what: string): void {
    const line = `${this.#nowMs().toFixed(3)} ${what}`;
    this.lines += 1;
    this.#checksum = crc32(line, this.#checksum);
    this.#newest.push(line);
    if (this.#newest.length > 2 * KEPT) this.#newest.splice(0, KEPT);
    this.#print?.(line);
  }

  /** Equal for equal runs. */
  get fingerprint(): string {
    return `${this.lines}-${(this.#checksum >>> 0).toString(16).padStart(8, '0')}`;
  }

  newest(count: number): readonly string[] {
    return this.#newest.slice(-count);
  }
}
