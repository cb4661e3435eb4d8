import { mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { flushLoggers, openLogger, textLine } from './logging.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rephub-log-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

describe('openLogger', () => {
  it('writes one JSON object per event, at its level and above', async () => {
    const logFile = join(directory, 'log');
    const log = await openLogger({ logLevel: 'info', logFormat: 'json', logFile });
    log.debug('not-this');
    log.info('link-up', { hub: 'tcp://h:9010', delayMs: 5 });
    log.error('disk-failed');
    await flushLoggers();
    const lines = readFileSync(logFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines).toMatchObject([
      { level: 'info', event: 'link-up', hub: 'tcp://h:9010', delayMs: 5 },
      { level: 'error', event: 'disk-failed' },
    ]);
  });

  it('goes on in a new file when it was reopened after a rename', async () => {
    const logFile = join(directory, 'log');
    const log = await openLogger({ logLevel: 'debug', logFormat: 'text', logFile });
    log.info('before');
    await flushLoggers();
    renameSync(logFile, `${logFile}.1`);
    log.reopen();
    await vi.waitFor(() => readFileSync(logFile));
    log.warn('after', { reason: 'two words' });
    await vi.waitFor(async () => {
      await flushLoggers();
      expect(readFileSync(logFile, 'utf8')).toMatch(/^\S+Z warn {2}after reason="two words"\n$/);
    });
    expect(readFileSync(`${logFile}.1`, 'utf8')).toMatch(/ info {2}before\n$/);
  });

  it('says in the old file that it cannot be opened anew, and goes on there', async () => {
    const logFile = join(directory, 'log');
    const log = await openLogger({ logLevel: 'debug', logFormat: 'text', logFile });
    const moved = `${directory}.moved`;
    renameSync(directory, moved);
    try {
      log.reopen();
      log.info('after');
      await vi.waitFor(async () => {
        await flushLoggers();
        expect(readFileSync(join(moved, 'log'), 'utf8')).toMatch(
          /^\S+Z error log-not-reopened file=\S+ reason=.+\n\S+Z info {2}after\n$/,
        );
      });
    } finally {
      renameSync(moved, directory);
    }
  });

  it('refuses a file that cannot be opened', async () => {
    const settings = { logLevel: 'info', logFormat: 'text', logFile: join(directory, 'no/log') } as const;
    await expect(openLogger(settings)).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('--log-file') as string,
    });
  });
});

describe('textLine', () => {
  it('never lets a value start a new line or look like another field', () => {
    const line = textLine(
      JSON.stringify({ time: 'T', level: 'info', event: 'e', a: 'x\ny', b: 'c=d', n: null, k: 1, e: '' }),
    );
    expect(line).toBe('T info  e a="x\\ny" b="c=d" n=null k=1 e=""\n');
  });
});
