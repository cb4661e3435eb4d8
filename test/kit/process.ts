/**
 * Real processes for tests: started with their output kept, waited for, stopped, killed, paused, by their own pid only.
 *
 * What always holds: a child ends with its scope, and what it forked with it (each child leads a process group of its
 * own, signals go to the group); and should this process die first, the kernel kills the child (setpriv --pdeathsig,
 * which keeps the pid). A wait that fails shows what the child said.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type Scope } from './scope.js';
import { waitUntil, within } from './wait.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** How long SIGTERM may take before SIGKILL follows. */
  readonly stopWithinMs?: number;
}

/** A running child. `stdout`, `stderr` and `output` (both, as they came) grow while it runs. */
export class Child {
  readonly name: string;
  readonly pid: number;
  readonly exited: Promise<Exit>;
  stdout = '';
  stderr = '';
  output = '';
  exit: Exit | undefined;
  readonly #process: ChildProcess;
  readonly #stopWithinMs: number;

  constructor(name: string, child: ChildProcess, stopWithinMs: number) {
    this.name = name;
    this.#process = child;
    this.#stopWithinMs = stopWithinMs;
    if (child.pid === undefined) throw new Error(`${name} could not be started`);
    this.pid = child.pid;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.output += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.output += text;
    });
    this.exited = new Promise((resolve) => {
      const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.exit ??= { code, signal };
        resolve(this.exit);
      };
      child.on('close', ended);
      // 'close' also waits for those who inherited the output; a child's own end is enough after a moment to read the rest.
      child.on('exit', (code, signal) => {
        setTimeout(ended, 200, code, signal).unref();
      });
    });
  }

  /** Resolves with the first match in what the child has said so far or says next; fails when it ends without. */
  async waitForOutput(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    return await waitUntil(
      `${this.name} to say ${String(pattern)}`,
      () => {
        const match = pattern.exec(this.output);
        if (match !== null) return match;
        this.#failIfEnded(`it said ${String(pattern)}`);
        return undefined;
      },
      { ...(timeoutMs === undefined ? {} : { timeoutMs }), seen: () => this.output.slice(-2000) },
    );
  }

  /** Waits for a condition about this child; fails at once when the child ends. */
  async waitFor<T>(
    what: string,
    check: () => Promise<T | undefined | false> | T | undefined | false,
    timeoutMs?: number,
  ): Promise<T> {
    return await waitUntil(
      what,
      async () => {
        const value = await check();
        if (value === undefined || value === false) this.#failIfEnded(what);
        return value;
      },
      { ...(timeoutMs === undefined ? {} : { timeoutMs }), seen: () => this.output.slice(-2000) },
    );
  }

  async waitForExit(timeoutMs = 30_000): Promise<Exit> {
    try {
      return await within(`${this.name} to end`, timeoutMs, this.exited);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : ''}; it said: ${this.output.slice(-2000)}`, {
        cause: error,
      });
    }
  }

  /** Sends a signal to the child and what it forked, if it still runs. */
  signal(signal: NodeJS.Signals): void {
    if (this.exit !== undefined) return;
    try {
      process.kill(-this.pid, signal);
    } catch {
      this.#process.kill(signal);
    }
  }

  /** SIGTERM, then SIGKILL when that takes too long. */
  async stop(): Promise<Exit> {
    if (this.exit !== undefined) return this.exit;
    this.signal('SIGCONT');
    this.signal('SIGTERM');
    try {
      return await within(`${this.name} to stop`, this.#stopWithinMs, this.exited);
    } catch {
      return await this.killHard();
    }
  }

  /** SIGKILL: what a crash looks like from outside. */
  async killHard(): Promise<Exit> {
    this.signal('SIGKILL');
    return await within(`${this.name} to die`, 15_000, this.exited);
  }

  /** SIGSTOP: the process is there and does nothing. */
  pause(): void {
    this.signal('SIGSTOP');
  }

  resume(): void {
    this.signal('SIGCONT');
  }

  #failIfEnded(instead: string): void {
    if (this.exit === undefined) return;
    const how = this.exit.signal ?? `code ${this.exit.code ?? 'none'}`;
    throw new Error(`${this.name} ended with ${how} before ${instead}; it said: ${this.output.slice(-4000)}`);
  }
}

/** Starts a command that lives until it is stopped or its scope closes. */
export function start(scope: Scope, command: string, args: readonly string[], options: StartOptions = {}): Child {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', command, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  child.on('error', () => undefined);
  const name = command === process.execPath ? `node ${args[0] ?? ''}` : command;
  const started = new Child(name, child, options.stopWithinMs ?? 12_000);
  scope.defer(`${name} (${started.pid})`, async () => {
    await started.stop();
  });
  return started;
}

export interface RunResult extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string | Buffer;
  readonly timeoutMs?: number;
}

/** Runs a command to its end. Any exit code is a result; only a missing command or the time limit is a failure. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input);
  const ended = new Promise<Exit>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      resolve({ code, signal });
    });
  });
  try {
    const exit = await within(`${command} ${args.join(' ')}`, options.timeoutMs ?? 60_000, ended);
    return { ...exit, stdout, stderr };
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(
      `${error instanceof Error ? error.message : ''}; it said: ${stdout.slice(-1500)}${stderr.slice(-1500)}`,
      { cause: error },
    );
  }
}

/** Runs a command that must succeed; gives its standard output. */
export async function must(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, args, options);
  if (result.code !== 0) {
    const how = result.signal ?? `code ${result.code ?? 'none'}`;
    throw new Error(
      `${command} ${args.join(' ')} ended with ${how}: ${result.stderr.slice(-2000)}${result.stdout.slice(-2000)}`,
    );
  }
  return result.stdout;
}
