import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { BlockBits } from './block-bits.js';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);

describe(`block bits (seed ${seed})`, () => {
  it('agree with a plain set under random changes and questions', () => {
    const random = new SeededRandomness(seed);
    for (const length of [1, 31, 32, 33, 4096, 4097, 100_000]) {
      const bits = new BlockBits(length);
      const model = new Uint8Array(length);
      for (let step = 0; step < 400; step += 1) {
        const from = random.below(length);
        const to = Math.min(length, from + 1 + random.below(random.below(4) === 0 ? length : 70));
        const changed = model.subarray(from, to).reduce((sum, bit) => sum + bit, 0);
        if (random.below(2) === 0) {
          expect(bits.set(from, to)).toBe(to - from - changed);
          model.fill(1, from, to);
        } else {
          expect(bits.clear(from, to)).toBe(changed);
          model.fill(0, from, to);
        }
        const at = random.below(length);
        const limit = at + random.below(length - at + 1);
        const next = model.indexOf(1, at);
        expect(bits.nextSet(at)).toBe(next);
        const clear = model.subarray(0, limit).indexOf(0, at);
        expect(bits.nextClear(at, limit)).toBe(clear < 0 ? limit : clear);
        expect(bits.any(at, limit)).toBe(next >= 0 && next < limit);
        expect(bits.has(at)).toBe(model[at] === 1);
      }
      expect(bits.count).toBe(model.reduce((sum, bit) => sum + bit, 0));
    }
  });

  it('give their words out and take them in again', () => {
    const random = new SeededRandomness(seed);
    const bits = new BlockBits(70_000);
    for (let step = 0; step < 50; step += 1) {
      const from = random.below(70_000);
      bits.set(from, Math.min(70_000, from + random.below(300)));
    }
    const copy = new BlockBits(70_000);
    const words = new Uint32Array(1016);
    for (let word = 0; word * 32 < 70_000; word += 1016) {
      bits.copyWords(word, words);
      copy.addWords(word, words);
    }
    expect(copy.count).toBe(bits.count);
    for (let bit = bits.nextSet(0); bit >= 0; bit = bits.nextSet(bit + 1)) expect(copy.has(bit)).toBe(true);
  });

  it('drop bits beyond their length', () => {
    const bits = new BlockBits(33);
    bits.addWords(0, new Uint32Array([0, 0xffff_ffff, 0xffff_ffff]));
    expect(bits.count).toBe(1);
    expect(bits.nextSet(0)).toBe(32);
  });

  it('find the only bit of 2^31 blocks without looking at all words', () => {
    const bits = new BlockBits(2 ** 31);
    bits.set(2 ** 31 - 1, 2 ** 31);
    const start = performance.now();
    for (let round = 0; round < 100; round += 1) expect(bits.nextSet(round)).toBe(2 ** 31 - 1);
    // A scan of all words would take seconds.
    expect(performance.now() - start).toBeLessThan(1000);
    bits.clear(2 ** 31 - 1, 2 ** 31);
    expect(bits.nextSet(0)).toBe(-1);
  });
});
