import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { IndexMemory } from '../index/extent-index.js';
import { PACKED_FROM, PackedRecord, PackedRecords } from './packed-records.js';

describe('packed records', () => {
  it('every place of every record is found, and none that was not given or was dropped', () => {
    for (let seed = 1; seed <= 20; seed += 1) {
      const random = new SeededRandomness(seed);
      const memory = new IndexMemory();
      const packed = new PackedRecords(memory);
      const all: { from: number; rawBytes: number; position: number; frameBytes: number }[] = [];
      const found = new PackedRecord();
      let position = 0;
      let droppedBelow = 0;
      for (let step = 0; step < 1500; step += 1) {
        position += random.below(5000);
        const [frameBytes, rawBytes] = [100 + random.below(4000), 1 + random.below(1 << 20)];
        const from = packed.add(position, frameBytes, rawBytes);
        expect(from).toBeGreaterThanOrEqual(PACKED_FROM);
        all.push({ from, rawBytes, position, frameBytes });
        position += frameBytes;
        if (random.below(100) === 0) {
          droppedBelow = Math.max(droppedBelow, all[random.below(all.length)]?.position ?? 0);
          packed.dropBelow(droppedBelow);
        }
        const record = all[random.below(all.length)];
        if (record === undefined) continue;
        for (const offset of [0, record.rawBytes - 1, random.below(record.rawBytes)]) {
          const isThere = packed.find(record.from + offset, found);
          // Dropping never takes away what lies above, and what it took stays away.
          if (record.position >= droppedBelow) expect(isThere, `seed ${seed}, step ${step}`).toBe(true);
          if (isThere) expect(found, `seed ${seed}, step ${step}`).toMatchObject(record);
        }
        expect(packed.find(from + rawBytes, found)).toBe(false);
        expect(packed.find(PACKED_FROM - 1, found)).toBe(false);
      }
      packed.dropBelow(Infinity);
      expect([packed.count, memory.bytes]).toEqual([0, 0]);
    }
  });

  it('costs 20 bytes a record, told to the index', () => {
    const memory = new IndexMemory();
    const packed = new PackedRecords(memory);
    for (let at = 0; at < 100_000; at += 1) packed.add(at * 1000, 900, 4096);
    expect(memory.bytes).toBeLessThan(100_000 * 20 * 2);
    packed.dropBelow(99_000_000);
    for (let at = 100_000; at < 100_100; at += 1) packed.add(at * 1000, 900, 4096);
    expect(packed.count).toBe(1100);
  });
});
