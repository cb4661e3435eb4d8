import { describe, expect, test } from 'vitest';
import { CompressionPolicy } from './policy.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const STEP_MS = 50;

/** A guest that writes, a link that takes so much, and the policy between them, in virtual time. */
class Line {
  readonly policy: CompressionPolicy;
  nowMs = 1000;
  #leftBytes = 0;
  #rawBytes = 0;
  #queue = 0;
  /** Raw bytes that were compressed, and not. */
  packed = 0;
  plain = 0;

  constructor(policy: CompressionPolicy) {
    this.policy = policy;
  }

  /** `guest` and `link` in bytes a second, `ratio`: what is left of compressed bytes. */
  run(seconds: number, guest: number, link: number, ratio: number): void {
    for (let step = 0; step < (seconds * 1000) / STEP_MS; step += 1) {
      this.nowMs += STEP_MS;
      // Records of 64 KiB; what does not fit the window waits at the guest.
      for (let made = 0; made < (guest * STEP_MS) / 1000 && this.#queue < 64 * MIB; made += 64 * KIB) {
        this.#rawBytes += 64 * KIB;
        if (this.policy.isOn(this.nowMs)) {
          this.policy.tried(this.nowMs, 64 * KIB, 64 * KIB * ratio, 0.1);
          this.packed += 64 * KIB;
          this.#queue += ratio < 0.9 ? 64 * KIB * ratio : 64 * KIB;
        } else {
          this.plain += 64 * KIB;
          this.#queue += 64 * KIB;
        }
      }
      const left = Math.min(this.#queue, (link * STEP_MS) / 1000);
      this.#queue -= left;
      this.#leftBytes += left;
      this.policy.look({
        nowMs: this.nowMs,
        leftBytes: this.#leftBytes,
        rawBytes: this.#rawBytes,
        waits: this.#queue > 0,
      });
    }
  }

  /** Share of what came that was compressed, since the last call. */
  share(): number {
    const share = this.packed / (this.packed + this.plain);
    this.packed = 0;
    this.plain = 0;
    return share;
  }
}

describe('compress auto', () => {
  test.each([
    ['a fast link, a guest that it can take', 200 * MIB, 1000 * MIB, 0, 0],
    ['a fast link, a guest that is faster still', 2000 * MIB, 1000 * MIB, 0, 0],
    ['a link of 10 Gbit/s, a guest that is faster', 2000 * MIB, 1180 * MIB, 0, 0],
    ['a link of 1 Gbit/s, a guest that it can take', 60 * MIB, 117 * MIB, 0, 0],
    ['a link of 1 Gbit/s, a guest that is faster', 400 * MIB, 117 * MIB, 0.9, 1],
    ['a link of 100 Mbit/s, a guest that is faster', 50 * MIB, 11 * MIB, 0.9, 1],
    ['a link of 1 Mbit/s, a guest that is faster', 5 * MIB, MIB / 8, 0.9, 1],
  ])('%s', (_, guest, link, least, most) => {
    const line = new Line(new CompressionPolicy('auto', false));
    line.run(2, guest, link, 0.3);
    line.share();
    line.run(10, guest, link, 0.3);
    const share = line.share();
    expect(share).toBeGreaterThanOrEqual(least);
    expect(share).toBeLessThanOrEqual(most);
  });

  test('nothing is compressed before the link has been waited for half a second', () => {
    const line = new Line(new CompressionPolicy('auto', false));
    line.run(0.5, 100 * MIB, 5 * MIB, 0.3);
    expect(line.share()).toBe(0);
    line.run(0.2, 100 * MIB, 5 * MIB, 0.3);
    expect(line.share()).toBeGreaterThan(0);
  });

  test('short waits, however many, are no slow link', () => {
    const line = new Line(new CompressionPolicy('auto', false));
    for (let turn = 0; turn < 50; turn += 1) {
      line.run(0.3, 100 * MIB, MIB, 0.3);
      line.run(0.3, 0, 2000 * MIB, 0.3);
    }
    expect(line.share()).toBe(0);
  });

  test('within the machine only a link that is slow indeed is taken for one', () => {
    const disk = new Line(new CompressionPolicy('auto', true));
    disk.run(10, 400 * MIB, 20 * MIB, 0.3);
    expect(disk.share()).toBe(0);
    const shaped = new Line(new CompressionPolicy('auto', true));
    shaped.run(20, 400 * MIB, 6 * MIB, 0.3);
    expect(shaped.share()).toBeGreaterThan(0.3);
  });

  test('it goes on while compressing is the reason why nothing waits, and ends with the load', () => {
    const line = new Line(new CompressionPolicy('auto', false));
    line.run(3, 20 * MIB, 10 * MIB, 0.1);
    line.share();
    line.run(20, 20 * MIB, 10 * MIB, 0.1);
    expect(line.share()).toBe(1);
    line.run(3, 2 * MIB, 10 * MIB, 0.1);
    line.share();
    line.run(10, 2 * MIB, 10 * MIB, 0.1);
    expect(line.share()).toBe(0);
    expect(line.policy.isIdle).toBe(true);
  });

  test('data that does not shrink is tried ever less often; data that does is found again', () => {
    const line = new Line(new CompressionPolicy('auto', false));
    line.run(60, 50 * MIB, 10 * MIB, 1);
    expect(line.share()).toBeLessThan(0.01);
    line.run(120, 50 * MIB, 10 * MIB, 0.5);
    line.share();
    line.run(10, 50 * MIB, 10 * MIB, 0.5);
    expect(line.share()).toBe(1);
  });

  test('a codec that is slow here is not for a link that is hardly slower', () => {
    const policy = new CompressionPolicy('auto', false);
    // 64 KiB in 2 ms: 32 MiB/s.
    for (let at = 0; at < 100; at += 1) policy.tried(1000, 64 * KIB, 20 * KIB, 2);
    const look = (nowMs: number, leftBytes: number): void => {
      policy.look({ nowMs, leftBytes, rawBytes: 0, waits: true });
    };
    look(1000, 0);
    look(2000, 20 * MIB);
    expect(policy.isOn(2000)).toBe(false);
    look(3000, 22 * MIB);
    expect(policy.isOn(3000)).toBe(true);
  });
});

describe('compress always', () => {
  test('needs no slow link, and rests where data does not shrink', () => {
    const line = new Line(new CompressionPolicy('always', true));
    line.run(5, 100 * MIB, 2000 * MIB, 0.5);
    expect(line.share()).toBe(1);
    line.run(20, 100 * MIB, 2000 * MIB, 0.95);
    expect(line.share()).toBeLessThan(0.02);
    expect(line.policy.restsUntilMs).toBeGreaterThan(1000);
  });
});
