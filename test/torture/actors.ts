/**
 * Processes that are to be killed: each with its one name, whatever process plays it now, and what it may and may not do.
 *
 * Always holds: an end that nobody asked for, an exit code other than the expected, a stack trace or an alarm in a log is a
 * violation; only processes begun here are signalled.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { memoryOf } from '../kit/process-memory.js';
import { type Child, type Exit } from '../kit/process.js';

export type Violated = (what: string) => void;

/** What none of our processes may ever say, however often others die: a bug, or trust that was lost. */
const ALARMS = new Set([
  'bug',
  'mirroring-stopped',
  'tracking-failed',
  'writes-wait',
  'marks-not-durable',
  'internal-error',
  'http-error',
  'stop-too-slow',
  'storage-failed',
  'apply-failed',
  'journal-damaged',
  'segment-damaged',
  'line-set-aside',
  'group-failed',
  'group-reopening',
  'branch-failed',
]);
const TRACE = /^\s+at .+:\d+:\d+\)?$|UnhandledPromiseRejection|uncaughtException|assertion failed/m;

export interface LogLine {
  readonly event: string;
  readonly level: string;
  readonly [field: string]: unknown;
}

export interface Memory {
  readonly name: string;
  readonly boundBytes: number;
  peakBytes: number;
}

export interface ActorOptions {
  readonly name: string;
  /** Starts a process, and returns when it does its work. */
  readonly begin: () => Promise<Child>;
  /** Called at SIGTERM; what it returns says at the end which exit codes are in order. */
  readonly stopsWith: () => () => readonly number[];
  /** One of our own: an end that nobody asked for is a violation, and its log of JSON lines is judged. Others are started again. */
  readonly ours: boolean;
  /** Told when one of the others' has crashed, and when it is back. */
  readonly crashed?: (isAway: boolean) => void;
  readonly violated: Violated;
}

export class Actor {
  readonly name: string;
  /** Ends that nobody asked for, of a process that is not ours. */
  crashes = 0;
  readonly #options: ActorOptions;
  #child: Child | null = null;
  readonly #children: Child[] = [];
  /** Children whose end was asked for. */
  readonly #condemned = new Set<Child>();
  #reviving: Promise<void> = Promise.resolve();

  constructor(options: ActorOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get child(): Child {
    if (this.#child === null) throw new Error(`${this.name} was not started`);
    return this.#child;
  }

  get pid(): number | null {
    return this.#child === null || this.#child.exit !== undefined ? null : this.#child.pid;
  }

  /** Everything that its processes have said, one after the other. */
  get said(): string {
    return this.#children.map((child) => `--- ${this.name}, process ${child.pid}\n${child.output}`).join('\n');
  }

  async start(): Promise<void> {
    const child = await this.#options.begin();
    this.#child = child;
    this.#children.push(child);
    child.exited.then(
      (exit) => {
        if (!this.#condemned.has(child)) this.#endedByItself(exit);
      },
      () => undefined,
    );
  }

  #endedByItself(exit: Exit): void {
    if (this.#options.ours) {
      this.#options.violated(`${this.name} ended by itself with ${how(exit)}`);
      return;
    }
    this.crashes += 1;
    this.#options.crashed?.(true);
    this.#reviving = this.start()
      .catch((error: unknown) => {
        this.#options.violated(`${this.name} does not start again: ${String(error)}`);
      })
      .finally(() => this.#options.crashed?.(false));
  }

  /** SIGSTOP. */
  async pause(): Promise<void> {
    await this.#reviving;
    this.child.pause();
  }

  /** SIGCONT. */
  resume(): void {
    this.child.resume();
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    await this.#reviving;
    this.#condemned.add(this.child);
    await this.child.killHard();
  }

  /** SIGTERM; anything but an orderly end within the time is a violation. */
  async stop(): Promise<void> {
    await this.#reviving;
    const { child } = this;
    this.#condemned.add(child);
    const stopsWith = this.#options.stopsWith();
    const exit = await child.stop();
    const allowed = stopsWith();
    if (exit.code === null || !allowed.includes(exit.code))
      this.#options.violated(`${this.name} ended with ${how(exit)} after SIGTERM, expected ${allowed.join(' or ')}`);
  }

  /** The events in its log; none where the log is not ours. */
  events(): readonly LogLine[] {
    if (!this.#options.ours) return [];
    return this.#children.flatMap((child) => child.output.split('\n').flatMap((text) => parseLine(text)));
  }

  /** Tells what its log says that it must not. Once, at the end. */
  judgeLog(): void {
    for (const child of this.#options.ours ? this.#children : []) {
      if (TRACE.test(child.output)) this.#options.violated(`${this.name} left a stack trace (process ${child.pid})`);
    }
    for (const line of this.events()) {
      if (ALARMS.has(line.event)) this.#options.violated(`${this.name} said: ${JSON.stringify(line)}`);
    }
  }
}

function parseLine(text: string): readonly LogLine[] {
  if (!text.startsWith('{')) return [];
  try {
    return [JSON.parse(text) as LogLine];
  } catch {
    // A line that was cut by SIGKILL.
    return [];
  }
}

function how(exit: Exit): string {
  return exit.signal ?? `code ${exit.code ?? 'none'}`;
}

/** Looks at the resident memory of processes until told to end; returns the peaks. */
export class MemoryWatch {
  readonly #watched: { readonly actor: Actor; readonly memory: Memory }[];
  #stopped = false;
  readonly #running: Promise<void>;

  constructor(actors: readonly { readonly actor: Actor; readonly boundBytes: number }[]) {
    this.#watched = actors.map(({ actor, boundBytes }) => ({
      actor,
      memory: { name: actor.name, boundBytes, peakBytes: 0 },
    }));
    this.#running = this.#watch();
  }

  async stop(): Promise<readonly Memory[]> {
    this.#stopped = true;
    await this.#running;
    return this.#watched.map(({ memory }) => memory);
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      for (const { actor, memory } of this.#watched) {
        if (actor.pid === null) continue;
        // It may be killed just now.
        const now = await memoryOf(actor.pid).catch(() => null);
        memory.peakBytes = Math.max(memory.peakBytes, now?.residentBytes ?? 0);
      }
      await delay(250);
    }
  }
}
