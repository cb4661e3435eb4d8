/**
 * Promise CORRUPT of the dirty tracking: one bit flipped anywhere in any file, after an orderly stop, after a kill and
 * after a power cut in the middle: noticed, or harmless; never a lost mark.
 */
import { type SimFiles, SeededRandomness } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { cleanDisk, DIRECTORY, reopen, type Setting, type Step, World } from './bitmap-world.js';

const MIB = 1024 * 1024;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const FLIPS_PER_BLOCK = 2;

const setting: Setting = {
  volumes: [
    { index: 0, name: 'disk0', sizeBytes: 320 * MIB },
    { index: 3, name: 'disk3', sizeBytes: 40 * MIB },
  ],
  granularityBytes: 4096,
  hotExtents: 600,
};

const SITUATIONS: Readonly<Record<string, readonly Step[]>> = {
  'marks on the disk after an orderly stop': [
    { do: 'write', ranges: [{ volume: 0, offset: 5 * MIB, length: 100_000 }], kind: 'mark' },
    { do: 'write', ranges: [{ volume: 3, offset: 30 * MIB, length: 50_000 }], kind: 'mark' },
    { do: 'restart', clean: true },
  ],
  'a large range in flight, then killed': [
    { do: 'write', ranges: [{ volume: 0, offset: 10 * MIB, length: 20 * MIB }], kind: 'record' },
    { do: 'cool' },
    { do: 'write', ranges: [{ volume: 0, offset: MIB, length: 300 * MIB }], kind: 'stay' },
    { do: 'write', ranges: [{ volume: 3, offset: 0, length: 512 }], kind: 'stay' },
  ],
};

/** Every block of 4096 bytes of every file, some bits in each. */
async function bitsOf(
  files: SimFiles,
  random: SeededRandomness,
): Promise<{ path: string; byte: number; bit: number }[]> {
  const bits: { path: string; byte: number; bit: number }[] = [];
  for (const name of await files.list(DIRECTORY)) {
    const path = `${DIRECTORY}/${name}`;
    const status = await files.status(path);
    for (let block = 0; block < (status?.sizeBytes ?? 0); block += 4096) {
      for (let flip = 0; flip < FLIPS_PER_BLOCK; flip += 1) {
        // Half of them in the first bytes, where what is said about the block lies.
        const byte = block + random.below(random.chance() ? 96 : 4096);
        bits.push({ path, byte, bit: random.below(8) });
      }
    }
  }
  return bits;
}

for (const [name, steps] of Object.entries(SITUATIONS)) {
  it(`CORRUPT: a flipped bit, ${name} (seed ${seed})`, { timeout: 60_000 }, async () => {
    const random = new SeededRandomness(seed);
    const world = new World(setting, (await cleanDisk(setting)).crash({ seed: 1, fate: 'keep' }));
    expect(await world.run(steps)).toBe(true);
    const disk = world.files.crash({ seed: 1, fate: 'keep' });
    let noticed = 0;
    const bits = await bitsOf(disk, random);
    for (const { path, byte, bit } of bits) {
      const files = disk.crash({ seed: 1, fate: 'keep' });
      const file = await files.open(path, 'write');
      const one = Buffer.alloc(1);
      await file.read(one, byte);
      one[0]! ^= 1 << bit;
      await file.write([one], byte);
      await file.close();
      const { tracker, marks } = await reopen(setting, files);
      const broken = tracker.found === 'untrusted' ? null : world.model.judge(marks, tracker.identity.restsOn);
      expect(broken, `SEED=${seed}: bit ${bit} of byte ${byte} of ${path}`).toBeNull();
      if (tracker.found === 'untrusted') {
        noticed += 1;
        expect(tracker.dirtyBytes).toBe(360 * MIB);
        expect(tracker.foundFaults).not.toEqual([]);
      }
      await tracker.close();
    }
    // All of the maps, at least.
    expect(noticed).toBeGreaterThan(10);
    expect(noticed).toBeLessThan(bits.length);
  });
}
