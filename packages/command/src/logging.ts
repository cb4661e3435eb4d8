/**
 * The Logger of the commands: one line per event, as text for people or JSON for machines, to stderr or a
 * file that can be reopened when logrotate has moved it.
 *
 * Always holds: a line never blocks the caller (what cannot be written yet is buffered, up to BUFFER_BYTES,
 * then dropped and counted); a value can never start a new line.
 */
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { ConfigFault, type LogFields, type Logger, plainReason } from '@rephub/platform';
import type { pino } from 'pino';
import { optional, withDefault } from './options.js';
import { choice, path } from './types.js';

const BUFFER_BYTES = 4 * 1024 * 1024;
const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

/** The options that every long-running command has; spread them into its table. */
export const logOptions = {
  'log-level': withDefault(choice(...LEVELS), 'info', { placeholder: 'LEVEL', help: 'the least that is logged' }),
  'log-format': withDefault(choice('text', 'json'), 'text', {
    placeholder: 'FORMAT',
    help: 'for people or for machines',
  }),
  'log-file': optional(path(), {
    placeholder: 'FILE',
    help: 'write the log there instead of to stderr; SIGHUP reopens it',
  }),
};

export interface LogSettings {
  readonly logLevel: (typeof LEVELS)[number];
  readonly logFormat: 'text' | 'json';
  readonly logFile: string | undefined;
}

export interface OpenLogger extends Logger {
  /**
   * Opens the file anew by its name; for SIGHUP. Nothing for stderr. Where it cannot be opened the log goes on in the one that
   * is open, and says so there (`log-not-reopened`).
   */
  reopen(): void;
  /** Writes out what is buffered, now; one line may still be under way (`flushLoggers` waits for it too). */
  flush(): void;
}

const open = new Set<Destination>();
const FLUSH_WITHIN_MS = 1000;

/** Resolves when all lines of all loggers are out, or a second has passed: a pipe that nobody reads must not keep the process. */
export async function flushLoggers(): Promise<void> {
  await Promise.all(
    Array.from(
      open,
      (destination) =>
        new Promise<void>((resolve) => {
          const limit = setTimeout(resolve, FLUSH_WITHIN_MS);
          destination.flush(() => {
            clearTimeout(limit);
            resolve();
          });
        }),
    ),
  );
}

/** Throws a ConfigFault when the file cannot be opened. */
export async function openLogger(settings: LogSettings): Promise<OpenLogger> {
  // Loaded when needed: short commands log nothing.
  const { pino: make } = await import('pino');
  const destination = await openDestination(make, settings.logFile);
  // A log that cannot be written must not end the process that it is about.
  destination.on('error', () => undefined);
  open.add(destination);
  const stream =
    settings.logFormat === 'json' ? destination : { write: (line: string) => void destination.write(textLine(line)) };
  const lines = make(
    {
      level: settings.logLevel,
      base: null,
      messageKey: 'event',
      timestamp: make.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
  const at =
    (level: (typeof LEVELS)[number]) =>
    (event: string, fields?: LogFields): void =>
      fields === undefined ? lines[level](event) : lines[level](fields, event);
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    reopen: () => {
      if (settings.logFile === undefined) return;
      const reason = whyNotWritable(settings.logFile);
      if (reason === null) destination.reopen();
      else lines.error({ file: settings.logFile, reason }, 'log-not-reopened');
    },
    flush: () => {
      try {
        destination.flushSync();
      } catch {
        // Nowhere to say it.
      }
    },
  };
}

type Destination = ReturnType<typeof pino.destination>;

async function openDestination(make: typeof pino, file: string | undefined): Promise<Destination> {
  // Tried at once, so that a wrong path is refused at start and not told to nobody later.
  const reason = file === undefined ? null : whyNotWritable(file);
  if (reason !== null) throw new ConfigFault('bad-value', `--log-file: cannot open "${file ?? ''}": ${reason}`);
  const destination = make.destination({
    dest: file ?? 2,
    append: true,
    sync: false,
    // With 0 it would not tell when it is done with writing.
    minLength: 1,
    maxLength: BUFFER_BYTES,
    mode: 0o640,
  });
  // Before that nothing can be flushed.
  if (file !== undefined) await once(destination, 'ready');
  return destination;
}

/** Null: it can be written, and is there now. */
function whyNotWritable(file: string): string | null {
  try {
    closeSync(openSync(file, 'a', 0o640));
    return null;
  } catch (error) {
    return plainReason(error);
  }
}

/** One line for people: `2026-01-01T00:00:00.000Z info  link-up hub=tcp://h:9010`. */
export function textLine(json: string): string {
  const { time, level, event, ...fields } = JSON.parse(json) as Record<string, unknown>;
  let line = `${String(time)} ${String(level).padEnd(5)} ${shown(event)}`;
  for (const [name, value] of Object.entries(fields)) line += ` ${name}=${shown(value)}`;
  return `${line}\n`;
}

function shown(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value);
  return /^[^\s"=\p{Cc}]+$/u.test(value) ? value : JSON.stringify(value);
}
