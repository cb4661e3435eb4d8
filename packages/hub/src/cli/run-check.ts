/**
 * Runs one check of a failover test: a shell command in a process group of its own, with a time limit.
 * When it ends, for whatever reason, everything it started in that group is ended too, so that nobody holds
 * on to the test's exports.
 */
import { spawn } from 'node:child_process';
import { TEST_PREFIX } from '../failover-test/environment.js';
import type { CheckResult } from '../failover-test/verdict.js';

export interface CheckOrder {
  readonly command: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  /** Ends the check at once; it counts as interrupted. */
  readonly signal: AbortSignal;
  /** Milliseconds since the test began. */
  readonly sinceStartMs: () => number;
}

const KEPT_LINES = 20;
const KEPT_CHARACTERS = 64 * 1024;
const TERM_GRACE_MS = 2000;

export function runCheck(order: CheckOrder): Promise<CheckResult> {
  const beganMs = order.sinceStartMs();
  const output = new LastLines();
  return new Promise((resolve) => {
    let why: 'timeout' | 'interrupted' | null = null;
    let hard: NodeJS.Timeout | undefined;
    const child = spawn('sh', ['-c', order.command], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...inherited(process.env), ...order.environment },
    });
    const kill = (signal: NodeJS.Signals): void => {
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, signal);
      } catch {
        // Nobody is left in the group.
      }
    };
    const end = (because: 'timeout' | 'interrupted'): void => {
      if (why !== null) return;
      why = because;
      kill('SIGTERM');
      hard = setTimeout(() => kill('SIGKILL'), TERM_GRACE_MS);
    };
    const limit = setTimeout(() => end('timeout'), order.timeoutMs);
    const interrupted = (): void => end('interrupted');
    order.signal.addEventListener('abort', interrupted);
    if (order.signal.aborted) interrupted();

    let settled = false;
    const settle = (exitCode: number | null, ended: string | null): void => {
      if (settled) return;
      settled = true;
      clearTimeout(limit);
      clearTimeout(hard);
      order.signal.removeEventListener('abort', interrupted);
      // What the command left running in the background must not outlive the test.
      kill('SIGKILL');
      const sinceStartMs = order.sinceStartMs();
      resolve({
        command: order.command,
        exitCode: why === null ? exitCode : null,
        ended: why ?? ended,
        seconds: (sinceStartMs - beganMs) / 1000,
        sinceStartSeconds: sinceStartMs / 1000,
        lastLines: output.lines(),
      });
    };
    child.stdout.on('data', (chunk: Buffer) => output.add(chunk));
    child.stderr.on('data', (chunk: Buffer) => output.add(chunk));
    child.on('error', (error) => settle(null, `cannot run: ${error.message}`));
    // 'exit', not 'close': a background child that keeps the pipe open must not keep the test open.
    child.on('exit', (code, signal) => {
      setImmediate(() => settle(code, code === null ? `ended by ${signal ?? 'a signal'}` : null));
    });
  });
}

/** Without what another test has left there: a variable that this one does not set is not to be of another disk. */
function inherited(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith(TEST_PREFIX)));
}

/** The end of what a command says, bounded. */
class LastLines {
  #text = '';

  add(chunk: Buffer): void {
    this.#text = (this.#text + chunk.toString('utf8')).slice(-KEPT_CHARACTERS);
  }

  lines(): string[] {
    return this.#text
      .replace(/[^\P{Cc}\n\t]/gu, '')
      .split('\n')
      .map((line) => line.trimEnd().slice(0, 500))
      .filter((line) => line !== '')
      .slice(-KEPT_LINES);
  }
}
