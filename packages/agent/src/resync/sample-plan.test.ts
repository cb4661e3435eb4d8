/** What a sample looks at: places that every use of a disk changes, and random ones spread over what is allocated. */
import { memoryDevice, writeBytes } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { partitionStarts } from './partition-starts.js';
import { allocationOf, knownPlaces, SAMPLE_BYTES, samplePlan } from './sample-plan.js';

const MIB = 1024 * 1024;

function mbr(...starts: number[]): Buffer {
  const head = Buffer.alloc(64 * 1024);
  head.writeUInt16LE(0xaa55, 510);
  for (const [entry, start] of starts.entries()) {
    head.writeUInt8(0x83, 446 + 16 * entry + 4);
    head.writeUInt32LE(start / 512, 446 + 16 * entry + 8);
  }
  return head;
}

function gpt(...starts: number[]): Buffer {
  const head = mbr(512);
  head.writeUInt8(0xee, 446 + 4);
  head.write('EFI PART', 512, 'latin1');
  head.writeBigUInt64LE(2n, 512 + 72);
  head.writeUInt32LE(128, 512 + 80);
  head.writeUInt32LE(128, 512 + 84);
  for (const [entry, start] of starts.entries()) {
    head.writeBigUInt64LE(7n, 1024 + 128 * entry);
    head.writeBigUInt64LE(BigInt(start / 512), 1024 + 128 * entry + 32);
  }
  return head;
}

test('partitions are found in an MBR and in a GPT; what is neither has none, and nothing lies beyond the disk', () => {
  expect(partitionStarts(mbr(MIB, 40 * MIB), 64 * MIB)).toEqual([MIB, 40 * MIB]);
  expect(partitionStarts(gpt(MIB, 2 * MIB, 50 * MIB), 64 * MIB)).toEqual([MIB, 2 * MIB, 50 * MIB]);
  expect(partitionStarts(mbr(MIB, 80 * MIB), 64 * MIB)).toEqual([MIB]);
  expect(partitionStarts(Buffer.alloc(64 * 1024), 64 * MIB)).toEqual([]);
  expect(partitionStarts(Buffer.alloc(100), 100)).toEqual([]);
});

test('a partition table that lies is read only as far as it goes (random, seeded)', () => {
  const random = new SeededRandomness(5);
  for (let round = 0; round < 300; round++) {
    const head = Buffer.from(random.bytes(2048));
    head.writeUInt16LE(0xaa55, 510);
    if (round % 2 === 0) {
      head.writeUInt8(0xee, 446 + 4);
      head.write('EFI PART', 512, 'latin1');
    }
    for (const start of partitionStarts(head, 64 * MIB)) expect(start > 0 && start < 64 * MIB).toBe(true);
  }
});

test('the boot sector, the superblocks, the end and the begin of each partition are always looked at', async () => {
  const disk = memoryDevice(64 * MIB);
  await writeBytes(disk, 0, mbr(3 * MIB));
  const plan = samplePlan(
    disk.sizeBytes,
    await knownPlaces(disk),
    await allocationOf(disk),
    0,
    new SeededRandomness(1),
  );
  const looked = (at: number): boolean => plan.some(({ offset, length }) => at >= offset && at < offset + length);
  for (const at of [0, 1024, SAMPLE_BYTES, MIB, MIB + SAMPLE_BYTES, 3 * MIB, 3 * MIB + SAMPLE_BYTES, 64 * MIB - 1]) {
    expect(looked(at), String(at)).toBe(true);
  }
});

test('random regions lie in what is allocated, one in each equal part of it, so a change of a quarter is never missed', () => {
  const data = [
    { offset: 8 * MIB, length: 16 * MIB },
    { offset: 900 * MIB, length: 48 * MIB },
  ];
  for (let seed = 1; seed <= 50; seed++) {
    const plan = samplePlan(1024 * MIB, [], { data, holes: [] }, 64, new SeededRandomness(seed));
    expect(plan.length).toBeGreaterThan(48);
    for (const { offset } of plan) {
      expect(data.some((run) => offset >= run.offset && offset < run.offset + run.length)).toBe(true);
    }
    const changed = plan.filter(({ offset }) => offset >= 910 * MIB && offset < 926 * MIB);
    expect(changed.length, `seed ${seed}`).toBeGreaterThan(8);
  }
});

test('holes are looked at too, in whole blocks; an odd end is no reason to leave it out', () => {
  const size = 10 * MIB + 4096;
  const holes = [{ offset: 100, length: size - 100 }];
  const plan = samplePlan(size, [size - 1], { data: [], holes }, 64, new SeededRandomness(1));
  expect(plan).toContainEqual({ offset: SAMPLE_BYTES, length: size - SAMPLE_BYTES });
  expect(plan).toContainEqual({ offset: 10 * MIB, length: 4096 });
});
