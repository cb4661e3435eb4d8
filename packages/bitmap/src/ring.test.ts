import { SeededRandomness, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { NO_EXTENT } from './geometry.js';
import { HotLog, type LogFacts, makeHotLog } from './hot-log.js';
import { CELL_BYTES, recoverRing, RING_BYTES, RING_CELLS } from './ring.js';
import { decodeTransaction, MAX_CHANGES, TRANSACTION_BYTES } from './transaction.js';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const AGENT = '0b0e7a0c-31a9-4c1e-8a54-0a4c1c1f2d3e';
const facts: LogFacts = {
  agentId: AGENT,
  lineId: AGENT,
  restsOn: 2 ** 40,
  durableNumber: 2 ** 41,
  lastNumber: 2 ** 52,
};

async function ringOf(files: SimFiles): Promise<Buffer> {
  const ring = Buffer.alloc(RING_BYTES);
  await (await files.open('/hot.log', 'read')).read(ring, 0);
  return ring;
}

/** A ring after `count` transactions, and the table that it must give. */
async function written(slots: number, count: number): Promise<{ ring: Buffer; table: Uint32Array; sequence: number }> {
  const random = new SeededRandomness(seed);
  const files = new SimFiles();
  const made = await makeHotLog(files, '/hot.log', slots, facts);
  const log = new HotLog(await files.open('/hot.log', 'write'), true, made.table, made.sequence);
  const table = new Uint32Array(slots).fill(NO_EXTENT);
  for (let index = 0; index < count; index += 1) {
    const changes: number[] = [];
    for (let change = random.below(MAX_CHANGES + 1); change > 0; change -= 1) {
      const slot = random.below(slots);
      const key = random.chance(0.2) ? NO_EXTENT : random.below(2 ** 32 - 1);
      changes.push(slot, key);
      table[slot] = key;
    }
    const copy = index % 2 === 0 ? 0 : 1;
    await log.append(changes, [{ volume: 254, first: 2 ** 24 - 1, count: index + 1, copy }], facts);
  }
  return { ring: await ringOf(files), table, sequence: made.sequence + count };
}

const cellAt = (sequence: number): number => (sequence % RING_CELLS) * CELL_BYTES;

describe(`hot.log (seed ${seed})`, () => {
  it('gives back the table, the announcement and the numbers, whatever was written and however many slots there are', async () => {
    for (const slots of [16, 487, 488, 1237, 16_384]) {
      for (const count of [0, 1, 2, 64, 130]) {
        const { ring, table, sequence } = await written(slots, count);
        const recovered = recoverRing(ring, AGENT);
        expect(recovered.table).toEqual(table);
        expect(recovered.newest).toMatchObject({ sequence, slots, ...facts });
        const copy = count % 2 === 0 ? 1 : 0;
        expect(recovered.announced).toEqual(count === 0 ? [] : [{ volume: 254, first: 2 ** 24 - 1, count, copy }]);
      }
    }
  });

  it('drops a torn newest transaction: the one before counts', async () => {
    const before = await written(1237, 69);
    const after = await written(1237, 70);
    for (let cut = 0; cut < CELL_BYTES; cut += 512) {
      const ring = Buffer.from(after.ring);
      before.ring.copy(
        ring,
        cellAt(after.sequence) + cut,
        cellAt(after.sequence) + cut,
        cellAt(after.sequence) + CELL_BYTES,
      );
      const isFirstCopyWhole = cut >= TRANSACTION_BYTES;
      expect(recoverRing(ring, AGENT).table).toEqual(isFirstCopyWhole ? after.table : before.table);
    }
  });

  it('CORRUPT: any flipped bit leaves the table as it is', async () => {
    const random = new SeededRandomness(seed);
    const { ring, table } = await written(1237, 70);
    for (let round = 0; round < 100; round += 1) {
      const at = random.below(RING_BYTES);
      ring[at]! ^= 1 << (round % 8);
      expect(recoverRing(ring, AGENT).table).toEqual(table);
      ring[at]! ^= 1 << (round % 8);
    }
  });

  it('CORRUPT: refuses a ring in which a cell other than the next one is lost', async () => {
    const { ring, sequence } = await written(1237, 70);
    for (let back = 1; back < RING_CELLS - 1; back += 1) {
      const spoiled = Buffer.from(ring);
      spoiled.fill(0x5a, cellAt(sequence - back), cellAt(sequence - back) + CELL_BYTES);
      expect(() => recoverRing(spoiled, AGENT)).toThrow('is not whole');
    }
    const spoiled = Buffer.from(ring);
    spoiled.fill(0x5a, cellAt(sequence + 1), cellAt(sequence + 1) + CELL_BYTES);
    expect(recoverRing(spoiled, AGENT).newest.sequence).toBe(sequence);
  });

  it('CORRUPT: refuses a short ring, an empty one, one of another agent, one with cells in the wrong place', async () => {
    const { ring, sequence } = await written(16, 3);
    expect(() => recoverRing(ring.subarray(1), AGENT)).toThrow('bytes');
    expect(() => recoverRing(Buffer.alloc(RING_BYTES), AGENT)).toThrow('no transaction');
    expect(() => recoverRing(ring, AGENT.replace('0b', '0c'))).toThrow('belongs to agent');
    const moved = Buffer.from(ring);
    ring.copy(moved, cellAt(sequence - 5), cellAt(sequence), cellAt(sequence) + CELL_BYTES);
    expect(() => recoverRing(moved, AGENT)).toThrow('lies in cell');
  });

  it('reads nothing into random bytes', () => {
    const random = new SeededRandomness(seed);
    for (let round = 0; round < 50; round += 1) {
      expect(decodeTransaction(random.bytes(TRANSACTION_BYTES)).kind).toBe('invalid');
    }
  });
});
