import { mkdtemp, rm, stat, truncate, writeFile, chmod, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FileSystem, type OpenFile, StorageFault } from '@rephub/platform';
import { nodeFiles } from '@rephub/platform/node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BlockDevice, CommandFlag, NbdError } from './block-device.js';
import { openFileDevice } from './file-device.js';
import { blockStatus, DeviceError, flushDevice, readBytes, trimRange, writeBytes, zeroRange } from './promised.js';

const MIB = 1024 * 1024;

let directory = '';
let path = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nbd-file-'));
  path = join(directory, 'disk.img');
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function sparse(sizeBytes: number): Promise<void> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
}

async function errorOf(promise: Promise<unknown>): Promise<number> {
  return await promise.then(
    () => 0,
    (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
  );
}

/** A file system of one file whose calls can be held up and made to fail. */
function faulty(over: Partial<OpenFile>): FileSystem {
  const file: OpenFile = {
    read: (buffer) => Promise.resolve(buffer.length),
    write: () => Promise.resolve(),
    sync: () => Promise.resolve(),
    status: () => Promise.reject(new Error('not asked')),
    truncate: () => Promise.reject(new Error('never')),
    allocate: () => Promise.reject(new Error('never')),
    punch: () => Promise.resolve(),
    nextData: () => Promise.resolve(null),
    close: () => Promise.resolve(),
    ...over,
  };
  const status = { kind: 'file' as const, sizeBytes: MIB, allocatedBytes: 0, identity: '1', changedUnixMs: 0 };
  return { ...nodeFiles(), open: () => Promise.resolve(file), status: () => Promise.resolve(status) };
}

describe('file device', () => {
  it('writes, reads, zeroes, trims and maps a sparse file, and takes no room for holes', async () => {
    await sparse(64 * MIB);
    const device = await openFileDevice(nodeFiles(), path);
    await writeBytes(device, 10 * MIB, Buffer.alloc(MIB, 1));
    await writeBytes(device, 11 * MIB + 3, Buffer.alloc(5, 2), true);
    expect((await readBytes(device, 11 * MIB, 10)).toString('hex')).toBe('00000002020202020000');
    expect((await blockStatus(device, 9 * MIB, 4 * MIB, 'base:allocation')).runs.slice(0, 4)).toEqual([
      MIB,
      3,
      MIB + 4096,
      0,
    ]);
    await zeroRange(device, 10 * MIB, MIB / 2);
    await trimRange(device, 10 * MIB + MIB / 2, MIB / 4);
    await zeroRange(device, 20 * MIB, MIB, CommandFlag.NoHole);
    await flushDevice(device);
    expect((await readBytes(device, 10 * MIB, MIB)).indexOf(1)).toBe((MIB / 4) * 3);
    const { blocks } = await stat(path);
    expect(blocks * 512).toBeLessThanOrEqual(MIB / 4 + 4096 + MIB);
    await device.close();
    expect((await readFile(path)).length).toBe(64 * MIB);
  });

  it('hundreds of requests in flight are each answered with their own bytes', async () => {
    await sparse(4 * MIB);
    const device = await openFileDevice(nodeFiles(), path);
    await Promise.all(
      Array.from({ length: 500 }, (_, index) => writeBytes(device, index * 4096, Buffer.alloc(4096, index))),
    );
    const read = await Promise.all(Array.from({ length: 500 }, (_, index) => readBytes(device, index * 4096, 4096)));
    expect(read.findIndex((bytes, index) => !bytes.equals(Buffer.alloc(4096, index)))).toBe(-1);
    await device.close();
  });

  it.each([
    ['upstream-missing', async () => await rm(path, { force: true })],
    ['upstream-empty', async () => await sparse(0)],
    ['upstream-odd-size', async () => await sparse(1000)],
  ])('%s is said at once', async (code, prepare) => {
    await prepare();
    await expect(openFileDevice(nodeFiles(), path)).rejects.toMatchObject({ kind: 'config', code });
  });

  it('cut short under us has no holes beyond its end, but errors', async () => {
    await sparse(4 * MIB);
    const device = await openFileDevice(nodeFiles(), path);
    await truncate(path, 3 * MIB);
    const status = async (offset: number, length: number): Promise<unknown> =>
      (await blockStatus(device, offset, length, 'base:allocation')).runs;
    expect(await status(0, 3 * MIB)).toEqual([3 * MIB, 3]);
    expect(await errorOf(status(2 * MIB, 2 * MIB))).toBe(NbdError.Eio);
    expect(await errorOf(readBytes(device, 3 * MIB, 4096))).toBe(NbdError.Eio);
    await device.close();
  });

  it('who asks for one run of a fragmented file does not have all of it looked up', async () => {
    await sparse(16 * MIB);
    const files = nodeFiles();
    let looks = 0;
    const counting: FileSystem = {
      ...files,
      open: async (name, mode) => {
        const file = await files.open(name, mode);
        const nextData = file.nextData.bind(file);
        file.nextData = async (position) => {
          looks += 1;
          return await nextData(position);
        };
        return file;
      },
    };
    const device = await openFileDevice(counting, path);
    for (let at = 0; at < 16 * MIB; at += 64 * 1024) await writeBytes(device, at, Buffer.alloc(4096, 1));
    const status = async (offset: number, flags: number): Promise<readonly number[]> =>
      (await blockStatus(device, offset, 16 * MIB - offset, 'base:allocation', flags)).runs;
    expect((await status(0, 0)).slice(0, 4)).toEqual([4096, 0, 60 * 1024, 3]);
    expect(looks).toBeGreaterThanOrEqual(256);
    looks = 0;
    expect((await status(0, CommandFlag.RequestOne)).slice(0, 2)).toEqual([4096, 0]);
    expect((await status(4096, CommandFlag.RequestOne)).slice(0, 2)).toEqual([60 * 1024, 3]);
    expect(looks).toBe(2);
    await device.close();
  });

  it('a directory is no file', async () => {
    await expect(openFileDevice(nodeFiles(), directory)).rejects.toMatchObject({ code: 'upstream-not-a-file' });
  });

  it('a file that may not be written is upstream-read-only, unless that was asked for', async () => {
    await sparse(MIB);
    await chmod(path, 0o400);
    const files = nodeFiles();
    // Root may write anything, so the refusal is played.
    const refusing: FileSystem = {
      ...files,
      open: (name, mode) =>
        mode === 'read' ? files.open(name, mode) : Promise.reject(new StorageFault('no-permission', 'not allowed')),
    };
    await expect(openFileDevice(refusing, path)).rejects.toMatchObject({ kind: 'config', code: 'upstream-read-only' });
    const device = await openFileDevice(refusing, path, { readOnly: true });
    expect(device.abilities).toMatchObject({ readOnly: true, trim: false, writeZeroes: false, fastZero: false });
    expect((await readBytes(device, 0, 4)).toString('hex')).toBe('00000000');
    await device.close();
  });

  it('a file that has been cut is an error, not zeroes', async () => {
    await sparse(MIB);
    const device = await openFileDevice(nodeFiles(), path);
    await truncate(path, MIB / 2);
    expect(await errorOf(readBytes(device, MIB / 2 - 512, 1024))).toBe(NbdError.Eio);
    await device.close();
  });

  it('a file that has grown is larger once it is looked at, by whole sectors only; one that has been cut keeps its size', async () => {
    await sparse(MIB);
    const device = await openFileDevice(nodeFiles(), path);
    await truncate(path, 2 * MIB + 100);
    expect(device.sizeBytes).toBe(MIB);
    expect([await device.grow(), device.sizeBytes]).toEqual([2 * MIB + 100, MIB]);
    await truncate(path, 2 * MIB + 512);
    expect([await device.grow(), device.sizeBytes]).toEqual([2 * MIB + 512, 2 * MIB + 512]);
    await writeBytes(device, 2 * MIB, Buffer.alloc(512, 1));
    expect(await blockStatus(device, 2 * MIB, 512, 'base:allocation')).toMatchObject({ runs: [512, 0] });
    await truncate(path, MIB);
    expect([await device.grow(), device.sizeBytes]).toEqual([MIB, 2 * MIB + 512]);
    await device.close();
  });

  it('a full disk is ENOSPC, any other failure EIO', async () => {
    const codes = ['disk-full', 'quota', 'io-error'];
    const files = faulty({ write: () => Promise.reject(new StorageFault(codes.shift() ?? '', 'no')) });
    const device = await openFileDevice(files, 'x');
    expect(await errorOf(writeBytes(device, 0, Buffer.alloc(1)))).toBe(NbdError.Enospc);
    expect(await errorOf(writeBytes(device, 0, Buffer.alloc(1)))).toBe(NbdError.Enospc);
    expect(await errorOf(writeBytes(device, 0, Buffer.alloc(1)))).toBe(NbdError.Eio);
  });

  it('FLUSH: once a sync has failed every later flush and FUA is EIO, even when syncing works again', async () => {
    let syncs = 0;
    const device = await openFileDevice(
      faulty({
        sync: () => (syncs++ === 1 ? Promise.reject(new StorageFault('sync-failed', 'no')) : Promise.resolve()),
      }),
      'x',
    );
    expect(await errorOf(flushDevice(device))).toBe(0);
    expect(await errorOf(flushDevice(device))).toBe(NbdError.Eio);
    expect(await errorOf(flushDevice(device))).toBe(NbdError.Eio);
    expect(await errorOf(writeBytes(device, 0, Buffer.alloc(1), true))).toBe(NbdError.Eio);
    expect(await errorOf(zeroRange(device, 0, 1, CommandFlag.Fua))).toBe(NbdError.Eio);
    expect(await errorOf(writeBytes(device, 0, Buffer.alloc(1)))).toBe(0);
    expect(syncs).toBe(2);
  });

  it('FLUSH: requests that wait share one sync, which begins after the last of them came', async () => {
    const pending: (() => void)[] = [];
    let syncs = 0;
    const device = await openFileDevice(
      faulty({
        sync: () => {
          syncs++;
          return new Promise((resolve) => pending.push(resolve));
        },
      }),
      'x',
    );
    const done: string[] = [];
    const flush = (name: string): Promise<number> => flushDevice(device).then(() => done.push(name));
    const all = [flush('a'), flush('b'), flush('c')];
    expect(syncs).toBe(1);
    pending.shift()?.();
    await all[0];
    expect(done).toEqual(['a']);
    expect(syncs).toBe(2);
    pending.shift()?.();
    await Promise.all(all);
    expect(syncs).toBe(2);
  });

  it('closing waits for what is in flight; what comes later is ESHUTDOWN', async () => {
    let finish: () => void = () => undefined;
    let closed = false;
    const device: BlockDevice = await openFileDevice(
      faulty({
        write: () =>
          new Promise((resolve) => {
            finish = resolve;
          }),
        close: () => {
          closed = true;
          return Promise.resolve();
        },
      }),
      'x',
    );
    const written = writeBytes(device, 0, Buffer.alloc(1));
    const closing = device.close();
    expect(await errorOf(readBytes(device, 0, 1))).toBe(NbdError.Eshutdown);
    expect(closed).toBe(false);
    finish();
    await written;
    await closing;
    expect(closed).toBe(true);
  });
});

describe('a claim on the file', () => {
  it('is given back once the file is closed, after what was in flight', async () => {
    await sparse(MIB);
    const steps: string[] = [];
    const files: FileSystem = {
      ...nodeFiles(),
      open: async (...asked) => {
        const file = await nodeFiles().open(...asked);
        const close = file.close.bind(file);
        return Object.assign(file, { close: () => close().then(() => void steps.push('closed')) });
      },
    };
    const claim = () => {
      steps.push('claimed');
      return Promise.resolve({ release: () => Promise.resolve(void steps.push('released')) });
    };
    const device = await openFileDevice(files, path, { claim });
    expect(steps).toEqual(['claimed']);
    const written = writeBytes(device, 0, Buffer.alloc(4096, 1)).then(() => void steps.push('written'));
    await device.close();
    await written;
    expect(steps).toEqual(['claimed', 'written', 'closed', 'released']);
    steps.length = 0;
    await expect(openFileDevice(files, path, { claim: () => Promise.reject(new Error('in use')) })).rejects.toThrow(
      'in use',
    );
    expect(steps).toEqual(['closed']);
  });
});
