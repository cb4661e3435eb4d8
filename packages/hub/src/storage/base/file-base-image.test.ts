import { SimFiles, simPlatform } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { FileBaseImage } from './file-base-image.js';

const KIB = 1024;
const PATH = '/base/root.raw';
const [OLD, NEW] = [64 * KIB, 256 * KIB];

describe('a base image that grows', () => {
  const seeds = Array.from({ length: 40 }, (_, at) => at + 1);
  it.each(seeds)(
    'seed %i: has the one size or the other after a power cut, whatever of the writes beyond its old end survives',
    async (seed) => {
      const { clock } = simPlatform(seed);
      const files = new SimFiles({ clock, seed });
      await files.makeDirectory('/base');
      await files.syncDirectory('/');
      const image = await FileBaseImage.make(files, PATH, OLD, false);
      await image.resize(NEW);
      for (const at of [60, 68, 100, 132]) await image.write([Buffer.alloc(8 * KIB, seed)], at * KIB);
      const after = files.imagineCrash({ seed, fate: 'mixed' });
      expect((await after.status(PATH))?.sizeBytes).toBe(NEW);
      const reopened = await FileBaseImage.open(after, PATH, [OLD, NEW]);
      expect(reopened.sizeBytes).toBe(NEW);
    },
  );
});

describe('a base image that somebody else writes', () => {
  it('is neither made nor opened, and nothing of it is changed; closed, it is free for others', async () => {
    const { files } = simPlatform(1);
    await files.makeDirectory('/base');
    const image = await FileBaseImage.make(files, PATH, OLD, false);
    const inUse = { code: 'base-in-use', retryable: true };
    await expect(FileBaseImage.open(files, PATH, [OLD])).rejects.toMatchObject(inUse);
    await expect(FileBaseImage.make(files, PATH, NEW, false)).rejects.toMatchObject(inUse);
    expect((await files.status(PATH))?.sizeBytes).toBe(OLD);
    await image.close();
    const again = await FileBaseImage.open(files, PATH, [OLD]);
    await again.close();
    const claim = await files.claim(PATH);
    expect(claim).not.toBe('in-use');
  });
});
