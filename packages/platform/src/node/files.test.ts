import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  fdatasync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FileSystem } from '../files.js';
import { readExactly, readSmallFile, replaceSmallFile } from '../files.js';
import { nodeFiles } from './files.js';
import { sizeFromSysfs } from './open-file.js';
import { systemCalls } from './system-calls.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rephub-files-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});
const at = (name: string): string => join(directory, name);

const implementations: [string, FileSystem][] = [
  ['with the system calls', nodeFiles()],
  ['without them', nodeFiles(null)],
];

it('the system calls can be had here', () => {
  expect(systemCalls()).not.toBeNull();
});

describe.each(implementations)('nodeFiles %s', (_name, files) => {
  it('reads back what was written in many chunks, more than one system call takes', async () => {
    const file = await files.open(at('a'), 'create-new');
    const chunks = Array.from({ length: 2500 }, (_, index) =>
      Buffer.alloc(index % 7 === 0 ? 0 : 1 + (index % 40), index),
    );
    await file.write(chunks, 12_345);
    const expected = Buffer.concat(chunks);
    expect((await readExactly(file, 12_345, expected.length)).equals(expected)).toBe(true);
    await file.sync();
    await file.close();
    expect(statSync(at('a')).mode & 0o777).toBe(0o600);
  });

  it('reads short only at the end of the file, and nothing beyond it', async () => {
    writeFileSync(at('a'), 'abcdef');
    const file = await files.open(at('a'), 'read');
    const buffer = Buffer.alloc(10);
    expect(await file.read(buffer, 2)).toBe(4);
    expect(buffer.toString('latin1', 0, 4)).toBe('cdef');
    expect(await file.read(buffer, 100)).toBe(0);
    expect(await file.read(Buffer.alloc(0), 0)).toBe(0);
    await file.close();
  });

  it('names the path and the reason in its faults', async () => {
    await expect(files.open(at('missing'), 'read')).rejects.toMatchObject({
      kind: 'storage',
      code: 'not-found',
      retryable: false,
      message: `cannot open ${at('missing')}: no such file or directory (ENOENT)`,
    });
    writeFileSync(at('a'), '');
    await expect(files.open(at('a'), 'create-new')).rejects.toMatchObject({ code: 'exists' });
    await expect(files.open(at('a/b'), 'create')).rejects.toMatchObject({ code: 'not-a-directory' });
    await expect(files.list(at('missing'))).rejects.toMatchObject({ code: 'not-found' });
    const file = await files.open(at('a'), 'read');
    await expect(file.write([Buffer.from('x')], 0)).rejects.toMatchObject({ code: 'closed' });
    await file.close();
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'closed' });
    await file.close();
  });

  it('waits at close for the calls that are under way', async () => {
    const file = await files.open(at('a'), 'create');
    const writes = Array.from({ length: 8 }, (_, index) => file.write([Buffer.alloc(1 << 20, index)], index << 20));
    const closing = file.close();
    await Promise.all(writes);
    await closing;
    expect(statSync(at('a')).size).toBe(8 << 20);
  });

  it('allocates room without changing what is there', async () => {
    const file = await files.open(at('a'), 'create');
    await file.write([Buffer.from('head')], 0);
    await file.truncate(1 << 20);
    await file.write([Buffer.from('middle')], 300_000);
    await file.allocate(0, 2 << 20);
    const status = await file.status();
    expect(status.sizeBytes).toBe(2 << 20);
    expect(status.allocatedBytes).toBeGreaterThanOrEqual(2 << 20);
    const content = await readExactly(file, 0, 2 << 20);
    const expected = Buffer.alloc(2 << 20);
    expected.write('head', 0);
    expected.write('middle', 300_000);
    expect(content.equals(expected)).toBe(true);
    await file.close();
  });

  it('makes a punched range read as zeroes and leaves the size alone', async () => {
    const file = await files.open(at('a'), 'create');
    await file.write([Buffer.alloc(1 << 20, 0xaa)], 0);
    await file.punch(65_536, 131_072);
    await file.punch(1_000_000, 10 << 20);
    await file.punch(5 << 20, 4096);
    const content = await readExactly(file, 0, 1 << 20);
    const expected = Buffer.alloc(1 << 20, 0xaa)
      .fill(0, 65_536, 196_608)
      .fill(0, 1_000_000);
    expect(content.equals(expected)).toBe(true);
    expect((await file.status()).sizeBytes).toBe(1 << 20);
    await file.close();
  });

  it('never says hole where there is data', async () => {
    const file = await files.open(at('a'), 'create');
    await file.truncate(8 << 20);
    await file.write([Buffer.alloc(4096, 1)], 1 << 20);
    await file.write([Buffer.alloc(4096, 1)], 5 << 20);
    const covered = (position: number, runs: { position: number; lengthBytes: number }[]): boolean =>
      runs.some((run) => run.position <= position && position < run.position + run.lengthBytes);
    const runs: { position: number; lengthBytes: number }[] = [];
    for (let from = 0; ;) {
      const run = await file.nextData(from);
      if (run === null) break;
      expect(run.position).toBeGreaterThanOrEqual(from);
      runs.push(run);
      from = run.position + run.lengthBytes;
    }
    expect([covered(1 << 20, runs), covered((5 << 20) + 4095, runs)]).toEqual([true, true]);
    expect(await file.nextData(8 << 20)).toBeNull();
    await file.close();
  });

  it('makes a directory with all above it, lists sorted, renames, removes', async () => {
    await files.makeDirectory(at('x/y/z/'));
    await files.makeDirectory(at('x/y/z'));
    expect(statSync(at('x')).mode & 0o777).toBe(0o700);
    for (const name of ['b', 'a', 'c']) writeFileSync(at(`x/y/z/${name}`), name);
    await files.rename(at('x/y/z/c'), at('x/y/z/a'));
    await files.syncDirectory(at('x/y/z'));
    expect(await files.list(at('x/y/z'))).toEqual(['a', 'b']);
    expect(readFileSync(at('x/y/z/a'), 'latin1')).toBe('c');
    await files.remove(at('x/y/z/a'));
    await files.remove(at('x/y/z/a'));
    await expect(files.makeDirectory(at('x/y/z/b'))).rejects.toMatchObject({ code: 'exists' });
    await files.removeTree(at('x'));
    await files.removeTree(at('x'));
    expect(await files.status(at('x'))).toBeNull();
  });

  it('makes directories below what is not there yet for several who want them at once', async () => {
    for (let round = 0; round < 30; round += 1) {
      const paths = [1, 2, 3, 4].map((mine) => at(`together-${round}/a/b/${mine}`));
      await Promise.all(paths.map((path) => files.makeDirectory(path)));
      expect(await files.list(at(`together-${round}/a/b`))).toEqual(['1', '2', '3', '4']);
    }
  });

  it('says that a directory cannot be made where the parent is there and takes none', async () => {
    await expect(files.makeDirectory('/proc/rephub')).rejects.toMatchObject({ code: 'not-found' });
    await expect(files.makeDirectory('/proc/rephub/state')).rejects.toMatchObject({ code: 'not-found' });
  });

  it('replaces a small file whole', async () => {
    await replaceSmallFile(files, at('a'), Buffer.from('one'));
    await replaceSmallFile(files, at('a'), Buffer.from('two'));
    expect((await readSmallFile(files, at('a')))?.toString()).toBe('two');
    expect(await files.list(directory)).toEqual(['a']);
  });

  it('tells files apart and how much room there is', async () => {
    writeFileSync(at('a'), 'x');
    writeFileSync(at('b'), 'x');
    const [a, b] = [await files.status(at('a')), await files.status(at('b'))];
    expect(a?.identity).not.toBe(b?.identity);
    expect(a).toMatchObject({ kind: 'file', sizeBytes: 1 });
    expect(Math.abs((a?.changedUnixMs ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(await files.status(directory)).toMatchObject({ kind: 'directory' });
    const room = await files.room(directory);
    expect(room.freeBytes).toBeGreaterThan(0);
    expect(room.freeBytes).toBeLessThanOrEqual(room.totalBytes);
  });

  it('gives a lock to one holder in this process, and again after its release', async () => {
    const lock = await files.lock(at('lock'));
    expect(lock).not.toBeNull();
    expect(await files.lock(at('lock'))).toBeNull();
    await lock?.release();
    const again = await files.lock(at('lock'));
    expect(again).not.toBeNull();
    await again?.release();
  });

  it('is refused a lock that another process holds until that process is killed', async () => {
    const script = `
      import { nodeFiles } from '@rephub/platform/node';
      const files = process.argv[2] === 'bare' ? nodeFiles(null) : nodeFiles();
      console.log((await files.lock(process.argv[1])) === null ? 'refused' : 'held');
      setInterval(() => undefined, 1000);`;
    const how = _name === 'without them' ? 'bare' : 'calls';
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '-C', '@rephub/source', '--input-type=module', '-e', script, '--', at('lock'), how],
      { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    expect(line.toString().trim()).toBe('held');
    expect(await files.lock(at('lock'))).toBeNull();
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = await files.lock(at('lock'));
    expect(lock).not.toBeNull();
    await lock?.release();
  });
});

describe('nodeFiles on a full disk', () => {
  const mounted = (): string => {
    const mount = at('small');
    mkdirSync(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'rephub-test', mount]);
    return mount;
  };

  it('says disk-full, which is worth another try, for writes and allocations', async () => {
    const mount = mounted();
    try {
      const files = nodeFiles();
      const file = await files.open(join(mount, 'a'), 'create');
      await expect(file.allocate(0, 2 << 20)).rejects.toMatchObject({
        kind: 'storage',
        code: 'disk-full',
        retryable: true,
      });
      await expect(file.write([Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)], 0)).rejects.toMatchObject({
        code: 'disk-full',
        retryable: true,
      });
      expect((await files.room(mount)).freeBytes).toBe(0);
      await file.truncate(0);
      await file.write([Buffer.from('room again')], 0);
      await file.close();
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});

describe('a block device', () => {
  it('has the size of its device, by lseek or by /sys, and punches', async () => {
    const image = at('image');
    closeSync(openSync(image, 'w'));
    execFileSync('truncate', ['-s', '3M', image]);
    const device = execFileSync('losetup', ['--show', '-f', image], { encoding: 'latin1' }).trim();
    try {
      for (const [, files] of implementations) {
        expect(await files.status(device)).toMatchObject({ kind: 'block', sizeBytes: 3 << 20 });
        const file = await files.open(device, 'write');
        await file.allocate(0, 3 << 20);
        await file.write([Buffer.alloc(65_536, 5)], 65_536);
        await file.punch(65_536, 4096);
        await file.sync();
        const content = await readExactly(file, 65_536, 8192);
        expect(content.equals(Buffer.alloc(8192, 5).fill(0, 0, 4096))).toBe(true);
        expect(await file.nextData(1000)).toEqual({ position: 1000, lengthBytes: (3 << 20) - 1000 });
        await file.close();
      }
      expect(sizeFromSysfs(statSync(device).rdev)).toBe(3 << 20);
    } finally {
      execFileSync('losetup', ['-d', device]);
    }
  });
});

vi.mock('node:fs', { spy: true });

describe('a sync that fails', () => {
  it('is final for the open file: later syncs and writes throw sync-failed', async () => {
    const files = nodeFiles();
    const file = await files.open(at('a'), 'create');
    await file.write([Buffer.from('x')], 0);
    vi.mocked(fdatasync).mockImplementationOnce((_fd, callback) => {
      callback(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }));
    });
    const [first, second] = await Promise.allSettled([file.sync(), file.sync()]);
    expect(first).toMatchObject({ reason: { kind: 'storage', code: 'sync-failed', retryable: false } });
    expect(second.status).toBe('rejected');
    await expect(file.sync()).rejects.toMatchObject({ code: 'sync-failed' });
    await expect(file.write([Buffer.from('y')], 0)).rejects.toMatchObject({ code: 'sync-failed' });
    expect(await file.read(Buffer.alloc(1), 0)).toBe(1);
    await file.close();
    const again = await files.open(at('a'), 'write');
    await again.sync();
    await again.close();
  });
});
