/** Whether and how much may be read beside guests, by moments that the test makes up. */
import { BlockRequest, Command } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { Courtesy, FULL_LEVEL, IDLE_MS, MOST_PIECE_BYTES, PIECE_BYTES, REST_MS } from './courtesy.js';
import { GuestLatency, type VolumeLatency } from '../guest/guest-latency.js';

const STEP_MS = 0.5;

/** How long a request takes, with so many being read beside it, submitted then. */
type Disk = (reads: number, nowMs: number) => number;

/** Time goes on in steps; guests ask every few milliseconds, a reader reads whenever it may. */
class World {
  nowMs = 0;
  readonly latency = new GuestLatency();
  readonly courtesy = new Courtesy(this.latency);
  bytesRead = 0;
  readingMs = 0;
  longestPauseMs = 0;
  mostReads = 0;
  isReading = true;
  pieceTakesMs = 4;
  readonly #due: { readonly atMs: number; readonly run: () => void }[] = [];
  #reads = 0;
  #lastReadMs = 0;

  guest(volume: VolumeLatency, everyMs: number, disk: Disk): void {
    const ask = (): void => {
      const submittedMs = this.nowMs;
      const request = new BlockRequest({ completed: () => undefined });
      request.command = Command.Read;
      volume.began(submittedMs);
      this.at(disk(this.#reads, submittedMs), () => {
        volume.ended(request, submittedMs, this.nowMs, true);
      });
      this.at(everyMs, ask);
    };
    ask();
  }

  at(afterMs: number, run: () => void): void {
    this.#due.push({ atMs: this.nowMs + afterMs, run });
  }

  pass(forMs: number): void {
    for (const untilMs = this.nowMs + forMs; this.nowMs < untilMs; this.nowMs += STEP_MS) {
      const due = this.#due.filter(({ atMs }) => atMs <= this.nowMs);
      this.#due.splice(0, this.#due.length, ...this.#due.filter(({ atMs }) => atMs > this.nowMs));
      for (const { run } of due) run();
      while (this.isReading && this.#reads < 16 && this.#begin());
    }
  }

  #begin(): boolean {
    const { courtesy } = this;
    const bytes = courtesy.pieceBytes(this.nowMs);
    if (!courtesy.admits(this.nowMs, bytes)) return false;
    if (this.#reads === 0) this.longestPauseMs = Math.max(this.longestPauseMs, this.nowMs - this.#lastReadMs);
    courtesy.began(this.nowMs, bytes);
    this.mostReads = Math.max(this.mostReads, ++this.#reads);
    const tookMs = (this.pieceTakesMs * bytes) / PIECE_BYTES;
    this.at(tookMs, () => {
      this.#reads--;
      this.#lastReadMs = this.nowMs;
      this.bytesRead += bytes;
      this.readingMs += tookMs;
      courtesy.ended(this.nowMs, bytes, tookMs);
    });
    return true;
  }

  get speed(): number {
    return this.courtesy.status(this.nowMs).speed;
  }
}

describe('Courtesy', () => {
  it('lets everything be read while no guest asks for anything, and at once when guests have stopped', () => {
    const world = new World();
    world.pass(100);
    expect([world.mostReads, world.courtesy.pieceBytes(world.nowMs), world.speed]).toEqual([16, MOST_PIECE_BYTES, 1]);
    const volume = world.latency.addVolume('disk0');
    volume.began(world.nowMs);
    expect([world.courtesy.pieceBytes(world.nowMs), world.courtesy.isYielding(world.nowMs)]).toEqual([
      PIECE_BYTES,
      true,
    ]);
    volume.ended(new BlockRequest({ completed: () => undefined }), world.nowMs, world.nowMs, true);
    expect(world.courtesy.isYielding(world.nowMs + IDLE_MS - 1)).toBe(true);
    expect(world.courtesy.admits(world.nowMs + IDLE_MS, MOST_PIECE_BYTES)).toBe(true);
  });

  it('comes to full speed beside guests that notice nothing, whichever volume is read', () => {
    const world = new World();
    world.guest(world.latency.addVolume('other'), 2, () => 3);
    world.isReading = false;
    world.pass(2_000);
    world.isReading = true;
    world.pass(50);
    expect(world.speed).toBeLessThan(0.1);
    world.pass(8_000);
    expect([world.speed, world.courtesy.pieceBytes(world.nowMs)]).toEqual([1, MOST_PIECE_BYTES]);
    expect(world.mostReads).toBeGreaterThan(1);
  });

  it('gives way to the one volume of many whose requests take longer, and comes back when they do not', () => {
    const world = new World();
    world.guest(world.latency.addVolume('fast'), 2, () => 0.5);
    const suffers = { from: 10_000, to: 14_000 };
    world.guest(world.latency.addVolume('suffers'), 5, (reads, nowMs) =>
      reads > 0 && nowMs >= suffers.from && nowMs < suffers.to ? 21 : 10,
    );
    world.isReading = false;
    world.pass(2_000);
    world.isReading = true;
    world.pass(7_900);
    const before = world.speed;
    world.pass(3_500);
    expect([before, world.speed < 0.05]).toEqual([1, true]);
    world.pass(12_000);
    expect(world.speed).toBeGreaterThan(0.9);
  });

  it.each([
    ['the mean', () => 21],
    ['one in twenty', (_reads: number, nowMs: number) => (Math.floor(nowMs / 5) % 20 === 0 ? 100 : 10)],
  ] as const)('halves when requests take more than twice as long by %s', (_what, beside) => {
    const world = new World();
    world.guest(world.latency.addVolume('disk0'), 5, (reads, nowMs) => (reads > 0 ? beside(reads, nowMs) : 10));
    world.isReading = false;
    world.pass(2_000);
    world.isReading = true;
    world.pass(4_000);
    expect(world.speed).toBeLessThan(0.5 / FULL_LEVEL);
  });

  it('judges nothing by requests that met what was read while guests were idle', () => {
    const world = new World();
    const volume = world.latency.addVolume('disk0');
    const request = new BlockRequest({ completed: () => undefined });
    const ask = (tookMs: number): void => {
      const submittedMs = world.nowMs;
      volume.began(submittedMs);
      world.at(tookMs, () => {
        volume.ended(request, submittedMs, world.nowMs, true);
      });
    };
    world.isReading = false;
    for (let asked = 0; asked < 40; asked++) {
      ask(10);
      world.pass(20);
    }
    world.pass(300);
    world.isReading = true;
    world.pass(2_000);
    expect(world.speed).toBe(1);
    world.isReading = false;
    for (let asked = 0; asked < 20; asked++) ask(50);
    world.pass(1);
    world.isReading = true;
    world.pass(240);
    expect(world.speed).toBeGreaterThanOrEqual(0.5 / FULL_LEVEL);
  });

  it('notices that nothing comes back at all', () => {
    const world = new World();
    const volume = world.latency.addVolume('disk0');
    world.guest(volume, 5, (_reads, nowMs) => (nowMs < 6_000 ? 10 : 1e9));
    world.isReading = false;
    world.pass(2_000);
    world.isReading = true;
    world.pass(3_900);
    const before = world.speed;
    world.pass(1_500);
    expect([before > 0.3, world.speed < before / 8]).toEqual([true, true]);
  });

  it('looks how long requests take alone where nobody knows: a guest that is slow anyway is not read more slowly', () => {
    const world = new World();
    world.guest(world.latency.addVolume('disk0'), 5, () => 40);
    world.pass(10_000);
    expect(world.latency.volumes[0]!.kinds[0]!.alone.total).toBeGreaterThan(30);
    expect(world.speed).toBe(1);
  });

  it('learns it anew when guests do something else meanwhile', () => {
    const world = new World();
    world.guest(world.latency.addVolume('disk0'), 5, (_reads, nowMs) => (nowMs < 5_000 ? 2 : 40));
    world.isReading = false;
    world.pass(4_000);
    world.isReading = true;
    world.pass(10_000);
    expect(world.speed).toBeLessThan(0.02);
    // Earlier looks count for some hundred requests: a few more outweigh them.
    world.pass(120_000);
    expect(world.speed).toBeGreaterThan(0.9);
  });

  it('goes on all the same beside a guest that is always slow: a sixteenth of the time less the looks, no long pause', () => {
    const world = new World();
    world.guest(
      world.latency.addVolume('disk0'),
      2,
      (_reads, nowMs) => (nowMs < 2_000 ? 1 : 500) + (world.latency.isAlone(nowMs) ? -0.5 : 0),
    );
    world.isReading = false;
    world.pass(1_000);
    world.isReading = true;
    world.pass(1_000);
    const [readingMs, fromMs] = [world.readingMs, world.nowMs];
    world.pass(60_000);
    const share = (world.readingMs - readingMs) / (world.nowMs - fromMs);
    expect(share).toBeGreaterThan((1 / 16) * (7 / 8) * 0.95);
    expect(world.longestPauseMs).toBeLessThan(1_010);
  });

  it('rests no longer than 200 ms, however long the piece took', () => {
    const world = new World();
    world.guest(world.latency.addVolume('disk0'), 5, (reads) => (reads > 0 ? 100 : 10));
    world.pieceTakesMs = 3_000;
    world.isReading = false;
    world.pass(2_000);
    world.isReading = true;
    world.pass(9_000);
    world.longestPauseMs = 0;
    world.pass(60_000);
    expect(world.longestPauseMs).toBeGreaterThan(REST_MS - 10);
    // A look may follow a rest.
    expect(world.longestPauseMs).toBeLessThan(REST_MS + 260);
  });

  it('tells what it goes by', () => {
    const world = new World();
    world.guest(world.latency.addVolume('disk0'), 5, (reads) => (reads > 0 ? 30 : 10));
    world.isReading = false;
    world.pass(2_000);
    expect(world.courtesy.status(world.nowMs).latency).toMatchObject([{ besideP99Ms: null }]);
    world.isReading = true;
    world.pass(3_000);
    const { yielding, latency, speed } = world.courtesy.status(world.nowMs);
    expect([yielding, speed < 0.1]).toEqual([true, true]);
    expect(latency).toMatchObject([{ volume: 'disk0', kind: 'read' }]);
    expect(latency[0]!.aloneP99Ms).toBeCloseTo(10.2, 0);
    expect(latency[0]!.besideP99Ms).toBeGreaterThan(30);
  });
});
