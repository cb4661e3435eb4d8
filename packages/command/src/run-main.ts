/** The real process around a program: its arguments, its streams, its exit code. */
import { EXIT, type ExitCode } from './exit.js';
import { flushLoggers } from './logging.js';
import { type ProgramSpec, runProgram } from './program.js';

/** The last line of a main file: runs the program with the process's arguments and ends the process with its code. */
export async function runMain(program: ProgramSpec): Promise<void> {
  // A reader that has seen enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed);
  });
  const code = await runProgram(program, {
    arguments: process.argv.slice(2),
    environment: process.env,
    columns: process.stdout.columns,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
  });
  await endProcess(code);
}

/** Ends the process once what was written and logged has left: stdout is asynchronous where it is a pipe. */
async function endProcess(code: ExitCode): Promise<void> {
  await flushLoggers();
  await new Promise<void>((resolve) => {
    process.stdout.write('', () => resolve());
  });
  process.exit(code);
}
