/** One disk under several volumes, for tests: it does one request after the other, and each takes its time. */
import { BlockRequest, Command } from '@rephub/nbd';
import { type Clock } from '@rephub/platform';
import { type SeededRandomness } from '@rephub/platform/sim';
import { type ScriptedDevice } from './scripted-device.js';

export interface DiskSpeed {
  /** What each request takes, however small. */
  readonly requestMs: number;
  readonly bytesPerMs: number;
}

export class QueuedDisk {
  /** How long it was at work. */
  busyMs = 0;
  /** What it read and wrote. */
  bytes = 0;
  /** The most reads that it had at once. */
  mostReads = 0;
  readonly speed: DiskSpeed;
  readonly #clock: Clock;
  #freeMs = 0;
  #reads = 0;

  constructor(clock: Clock, speed: DiskSpeed) {
    this.#clock = clock;
    this.speed = speed;
  }

  /** From now on what is asked of the device is done here. */
  carry(device: ScriptedDevice): void {
    device.later = (run, request) => {
      const carriesData = request.command === Command.Read || request.command === Command.Write;
      const bytes = carriesData ? request.length : 0;
      const takesMs = this.speed.requestMs + bytes / this.speed.bytesPerMs;
      const nowMs = this.#clock.monotonicMs();
      this.#freeMs = Math.max(nowMs, this.#freeMs) + takesMs;
      this.busyMs += takesMs;
      this.bytes += bytes;
      const isRead = request.command === Command.Read;
      if (isRead) this.mostReads = Math.max(this.mostReads, ++this.#reads);
      this.#clock.after(this.#freeMs - nowMs, () => {
        if (isRead) this.#reads--;
        run();
      });
    };
  }
}

/** A guest that reads and writes blocks of 4 KiB at random, about so many a second, and notes how long they take. */
export class RandomGuest {
  readonly tookMs: number[] = [];
  #stopped = false;

  constructor(
    clock: Clock,
    device: { readonly sizeBytes: number; submit(request: BlockRequest): void },
    random: SeededRandomness,
    perSecond: number,
  ) {
    const data = Buffer.alloc(4096, 9);
    const next = (): void => {
      const sinceLastMs = (-Math.log(1 - random.fraction()) * 1000) / perSecond;
      clock.after(sinceLastMs, () => {
        if (this.#stopped) return;
        const begunMs = clock.monotonicMs();
        const request = new BlockRequest({ completed: () => this.tookMs.push(clock.monotonicMs() - begunMs) });
        request.command = random.fraction() < 0.5 ? Command.Read : Command.Write;
        request.offset = Math.floor((random.fraction() * device.sizeBytes) / 4096) * 4096;
        request.length = 4096;
        if (request.command === Command.Write) request.data = [data];
        device.submit(request);
        next();
      });
    };
    next();
  }

  /** What 99 of 100 of those since the `from`th did not exceed. */
  p99(from = 0): number {
    const sorted = this.tookMs.slice(from).sort((one, other) => one - other);
    return sorted[Math.floor(sorted.length * 0.99)] ?? NaN;
  }

  stop(): void {
    this.#stopped = true;
  }
}
