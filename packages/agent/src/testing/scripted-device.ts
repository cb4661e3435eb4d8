/** An upstream for tests: memory, whose answers a test can turn into errors, hold back, or make less able. */
import { type Abilities, type BlockDevice, BlockRequest, Command, type Limits, memoryDevice } from '@rephub/nbd';

interface Rule {
  readonly command: Command;
  readonly error: number;
  readonly from: number;
  readonly to: number;
  times: number;
}

export class ScriptedDevice implements BlockDevice {
  readonly abilities: Abilities;
  /** Commands in the order in which they came. */
  readonly seen: Command[] = [];
  closes = 0;
  /** True: requests are kept, uncompleted, until `letGo`. */
  holding = false;
  /** Puts requests off; null: they are taken at once. */
  later: ((run: () => void, request: BlockRequest) => void) | null = null;
  /** Writes that fail have done their work all the same. */
  failsAfterwards = false;
  readonly #memory: BlockDevice;
  readonly #rules: Rule[] = [];
  #held: BlockRequest[] = [];

  constructor(sizeBytes: number, abilities: Partial<Abilities> = {}) {
    this.#memory = memoryDevice(sizeBytes);
    this.abilities = { ...this.#memory.abilities, ...abilities };
  }

  get sizeBytes(): number {
    return this.#memory.sizeBytes;
  }

  get limits(): Limits {
    return this.#memory.limits;
  }

  /** Requests of this kind that touch the range fail, `times` times. */
  fail(command: Command, error: number, times = Infinity, from = 0, to = Infinity): void {
    this.#rules.push({ command, error, times, from, to });
  }

  heal(): void {
    this.#rules.length = 0;
  }

  submit(request: BlockRequest): void {
    this.seen.push(request.command);
    if (this.holding) {
      this.#held.push(request);
      return;
    }
    const rule = this.#rules.find(
      ({ command, from, to, times }) =>
        times > 0 &&
        command === request.command &&
        request.offset < to &&
        from <= request.offset + Math.max(0, request.length - 1),
    );
    if (rule !== undefined) rule.times--;
    if (this.later === null) this.#take(request, rule);
    else this.later(() => this.#take(request, rule), request);
  }

  #take(request: BlockRequest, rule: Rule | undefined): void {
    if (rule === undefined) {
      this.#memory.submit(request);
      return;
    }
    if (this.failsAfterwards && request.command === Command.Write) {
      const done = new BlockRequest({ completed: () => request.complete(rule.error) });
      done.command = request.command;
      done.offset = request.offset;
      done.length = request.length;
      done.data = request.data;
      this.#memory.submit(done);
      return;
    }
    request.complete(rule.error);
  }

  /** What was held back goes on. */
  letGo(): void {
    this.holding = false;
    const held = this.#held;
    this.#held = [];
    for (const request of held) this.submit(request);
  }

  /** As a lost connection gives its requests back. */
  takeUnfinished(): BlockRequest[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  /** The content stays: the next connection finds it. */
  close(): Promise<void> {
    this.closes++;
    return Promise.resolve();
  }
}
