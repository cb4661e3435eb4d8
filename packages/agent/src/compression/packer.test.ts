import { type BlockCodec } from '@rephub/platform';
import { SimClock, simPlatform } from '@rephub/platform/sim';
import { Compression } from '@rephub/protocol';
import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { Packer, type Pressure } from './packer.js';

const KIB = 1024;
const LZ4 = simPlatform(1).codecs;
const ZSTD: BlockCodec = { name: 'zstd', compress: (raw) => Buffer.from(raw.subarray(0, 9)), decompress: () => null };
const BOTH = [...LZ4, ZSTD];
const TEXT = Buffer.alloc(64 * KIB, 'what disks hold ');
const NOISE = randomBytes(64 * KIB);

describe('packer', () => {
  let clock: SimClock;
  let pressure: { -readonly [key in keyof Pressure]: Pressure[key] };
  beforeEach(() => {
    clock = new SimClock();
    pressure = { waits: false, leftBytes: 0, madeBytes: 0 };
  });

  test('names what it may use, and uses what the hub takes of that', () => {
    const features = ['hashes-gmac', 'compress-zstd', 'compress-lz4'];
    expect(new Packer('auto', clock, BOTH).features).toEqual(['compress-lz4', 'compress-zstd']);
    expect(new Packer('zstd', clock, BOTH).features).toEqual(['compress-zstd']);
    expect(new Packer('zstd', clock, LZ4).features).toEqual([]);
    expect(new Packer('off', clock, BOTH).features).toEqual([]);
    for (const [wish, theirs, codec] of [
      ['auto', features, 'lz4'],
      ['auto', ['compress-zstd'], 'zstd'],
      ['zstd', features, 'zstd'],
      ['lz4', ['compress-zstd'], null],
      ['auto', ['hashes-gmac'], null],
      ['off', features, null],
    ] as const) {
      const packer = new Packer(wish, clock, BOTH);
      packer.linkUp(theirs, false, pressure);
      expect(packer.status).toEqual({ wish, codec, active: wish !== 'auto' && codec !== null });
      packer.linkDown();
      expect(packer.status).toEqual({ wish, codec: null, active: false });
    }
  });

  test('carries compressed what shrinks by a tenth, and is neither small nor very large', () => {
    const packer = new Packer('lz4', clock, BOTH);
    packer.linkUp(['compress-lz4'], false, pressure);
    const packed = packer.pack([TEXT.subarray(0, 1000), TEXT.subarray(1000)], TEXT.length, 7);
    expect(packed?.compression).toBe(Compression.lz4);
    const stored = Buffer.concat(packed?.slices ?? []);
    expect(stored.length).toBe(packed?.bytes);
    expect(LZ4[0]?.decompress(stored, TEXT.length)?.equals(TEXT)).toBe(true);
    expect(packer.counters).toEqual({ compressedRawBytes: TEXT.length, compressedBytes: stored.length });
    expect(packer.pack([NOISE], NOISE.length, 8)).toBeNull();
    expect(packer.pack([TEXT.subarray(0, 512)], 512, 9)).toBeNull();
    expect(packer.pack([Buffer.alloc(8 * KIB * KIB)], 8 * KIB * KIB, 10)).toBeNull();
    expect(packer.counters.compressedRawBytes).toBe(TEXT.length);
  });

  test('rests where data does not shrink, and wakes by itself', async () => {
    const packer = new Packer('lz4', clock, BOTH);
    packer.linkUp(['compress-lz4'], false, pressure);
    for (let number = 1; packer.on && number < 100; number += 1) packer.pack([NOISE], NOISE.length, number);
    expect(packer.on).toBe(false);
    await clock.advance(990);
    expect(packer.on).toBe(false);
    await clock.advance(20);
    expect(packer.on).toBe(true);
    packer.linkDown();
    expect(clock.pendingTimers).toBe(0);
  });

  test('auto: looks at the link only while records wait for it', async () => {
    const packer = new Packer('auto', clock, BOTH);
    packer.linkUp(['compress-lz4'], false, pressure);
    expect([packer.on, clock.pendingTimers]).toEqual([false, 0]);
    pressure.waits = true;
    packer.waits();
    await clock.advance(400);
    expect(packer.on).toBe(false);
    await clock.advance(200);
    expect(packer.on).toBe(true);
    pressure.waits = false;
    await clock.advance(3000);
    expect([packer.on, clock.pendingTimers]).toEqual([false, 0]);
  });

  test('knows which hubs cannot be sent what it has made', () => {
    const packer = new Packer('lz4', clock, BOTH);
    packer.linkUp(['compress-lz4'], false, pressure);
    packer.pack([TEXT], TEXT.length, 20);
    packer.pack([NOISE], NOISE.length, 21);
    expect(packer.lacks(['hashes-gmac'], 19)).toBe('lz4');
    expect(packer.lacks(['hashes-gmac'], 20)).toBeNull();
    expect(packer.lacks(['compress-lz4'], 1)).toBeNull();
  });
});
