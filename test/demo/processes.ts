/** The demo's own way of running the built commands: started, awaited, ended by their own pid, never left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../', import.meta.url);

export const COMMANDS = {
  repagent: fileURLToPath(new URL('packages/agent/bin/repagent.js', ROOT)),
  rephub: fileURLToPath(new URL('packages/hub/bin/rephub.js', ROOT)),
  failoverTest: fileURLToPath(new URL('packages/hub/bin/failover-test.js', ROOT)),
} as const;

export interface Running {
  readonly child: ChildProcess;
  /** What it has said so far, both streams. */
  said(): string;
  /** Sends the signal and waits for the end; returns the exit code, null when a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

const running = new Set<ChildProcess>();

/** Starts one of the commands in the background. */
export function startCommand(script: string, args: readonly string[]): Running {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let said = '';
  const hear = (chunk: Buffer): void => {
    said = (said + chunk.toString()).slice(-20_000);
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const over = once(child, 'exit').then(() => {
    running.delete(child);
  });
  return {
    child,
    said: () => said,
    end: async (signal) => {
      child.kill(signal);
      await over;
      return child.exitCode;
    },
  };
}

export interface Finished {
  readonly code: number;
  readonly output: string;
}

/** Runs a program to its end. */
export async function runProgram(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Finished> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, output };
}

/** Ends whatever is still running; for the way out when something went wrong. */
export function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
}
