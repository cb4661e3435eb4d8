import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { FileLock } from '../files.js';
import { claimFile } from './file-claim.js';
import { type SystemCalls, systemCalls } from './system-calls.js';

/** The byte that a QEMU which uses a file's first permission holds; writing is the second. */
const QEMU_PERMISSIONS_FROM = 100;
let directory = '';
let path = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'rephub-claim-'));
  path = join(directory, 'disk.raw');
  await writeFile(path, Buffer.alloc(4096));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

function calls(): SystemCalls {
  const found = systemCalls();
  if (found === null) throw new Error('no system calls here');
  return found;
}

async function claimed(): Promise<FileLock> {
  const claim = await claimFile(path, calls());
  if (typeof claim === 'string') throw new Error(claim);
  return claim;
}

it('has one holder at a time, also within a process, until he lets go', async () => {
  const claim = await claimed();
  expect(await claimFile(path, calls())).toBe('in-use');
  await claim.release();
  await claim.release();
  const again = await claimed();
  await again.release();
});

it('of two who ask at the same moment one has it, and nothing of the other stays', async () => {
  const both = await Promise.all([claimFile(path, calls()), claimFile(path, calls())]);
  const held = both.filter((claim) => typeof claim !== 'string');
  expect(held).toHaveLength(1);
  for (const claim of held) await claim.release();
  await (await claimed()).release();
});

it('is not refused for somebody who reads and wants nobody to write', async () => {
  const reader = await open(path, 'r');
  try {
    for (const unshared of [201, 202, 203]) expect(await calls().lockByte(reader.fd, unshared, 'shared')).toBe(true);
    await (await claimed()).release();
  } finally {
    await reader.close();
  }
});

it('is refused while another process writes, and dies with that process', { timeout: 60_000 }, async () => {
  const holder = spawn('qemu-io', ['-f', 'raw', '-c', 'sleep 600000', path], { stdio: 'ignore' });
  try {
    // Only looked at: a claim in the moment in which it starts would have it refused.
    const writes = QEMU_PERMISSIONS_FROM + 1;
    const looker = await open(path, 'r');
    await expect.poll(() => calls().isByteLocked(looker.fd, writes), { timeout: 30_000 }).toBe(true);
    await looker.close();
    expect(await claimFile(path, calls()).then(released)).toBe('in-use');
  } finally {
    holder.kill('SIGKILL');
    await once(holder, 'exit');
  }
  expect(await released(await claimFile(path, calls()))).toBe('held');
});

it('is without effect where nobody can lock', async () => {
  expect(await claimFile(path, null)).toBe('no-locks');
  for (const code of ['ENOLCK', 'EINVAL', 'EOPNOTSUPP']) {
    const lockByte = () => Promise.reject(Object.assign(new Error(code), { code }));
    expect(await claimFile(path, { ...calls(), lockByte }), code).toBe('no-locks');
  }
  const lockByte = () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }));
  await expect(claimFile(path, { ...calls(), lockByte })).rejects.toMatchObject({ code: 'io-error' });
  await (await claimed()).release();
});

it('says what is wrong with a file that is not there', async () => {
  await expect(claimFile(`${path}x`, calls())).rejects.toMatchObject({ code: 'not-found' });
});

async function released(claim: FileLock | string): Promise<string> {
  if (typeof claim === 'string') return claim;
  await claim.release();
  return 'held';
}
