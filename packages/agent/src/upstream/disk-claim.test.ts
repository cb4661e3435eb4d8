import { silentLogger } from '@rephub/platform';
import { SimFiles } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { DiskClaim } from './disk-claim.js';

async function disk(): Promise<SimFiles> {
  const files = new SimFiles();
  await (await files.open('/disk.raw', 'create')).close();
  return files;
}

it('keeps the file from others until its last user has closed it', async () => {
  const files = await disk();
  const ours = new DiskClaim(files, '/disk.raw', silentLogger);
  // A connection that is being closed while its successor is opened.
  const [first, second] = await Promise.all([ours.take(), ours.take()]);
  const theirs = new DiskClaim(files, '/disk.raw', silentLogger);
  await first.release();
  await first.release();
  await expect(theirs.take()).rejects.toMatchObject({ code: 'upstream-in-use', retryable: true });
  await second.release();
  const third = await theirs.take();
  await expect(ours.take()).rejects.toMatchObject({ code: 'upstream-in-use' });
  await third.release();
  await (await ours.take()).release();
});

it('tells once in a while that a disk lies where there are no locks, and goes on', async () => {
  const files = await disk();
  const told: string[] = [];
  const log = { ...silentLogger, info: (event: string) => told.push(event) };
  const bare = new DiskClaim(Object.assign(files, { claim: () => Promise.resolve('no-locks') }), '/disk.raw', log);
  const taken = [await bare.take(), await bare.take()];
  for (const claim of taken) await claim.release();
  expect(told).toEqual(['upstream-unlocked']);
});
