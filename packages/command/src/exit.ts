/** How a command ends: exit codes, and errors as one line for people. */
import { asError, Fault } from '@rephub/platform';

export const EXIT = {
  done: 0,
  failed: 1,
  wrongUsage: 2,
  /** Could not tell, or try again. */
  tryAgain: 75,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with that code and message, where no Fault fits. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'CommandFailure';
    this.exitCode = exitCode;
  }
}

/** Config faults are wrong usage, what is retryable is 75, all else has failed. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommandFailure) return error.exitCode;
  if (isBeingBuilt(error)) return EXIT.tryAgain;
  if (!(error instanceof Fault)) return EXIT.failed;
  if (error.kind === 'config') return EXIT.wrongUsage;
  return error.retryable ? EXIT.tryAgain : EXIT.failed;
}

/** The message on one line; with the stack, and that of its causes, when debugging. */
export function describeError(error: unknown, debug: boolean): string {
  const known = asError(error);
  if (debug) return fullStack(known);
  const line = known.message.replace(/\s*\n\s*/g, ' ');
  if (isBeingBuilt(error)) return `a part of this command is not there, is it being built anew? Try again (${line})`;
  // What is no Fault is a mistake of ours: its class helps whoever reports it.
  return known instanceof Fault || known instanceof CommandFailure
    ? line
    : `${known.name}: ${line} (REPHUB_DEBUG=1 shows where)`;
}

/** What a command loads late had another name when it began. */
function isBeingBuilt(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND';
}

function fullStack(error: Error): string {
  const own = error.stack ?? error.message;
  return error.cause === undefined ? own : `${own}\nCaused by: ${fullStack(asError(error.cause))}`;
}
