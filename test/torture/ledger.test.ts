// The judge is judged: what it must find, it finds.
import { expect, test } from 'vitest';
import { BLOCK_BYTES, Ledger, type Write } from './ledger.js';

const SEED = 7;

/** A disk of four blocks that can be written as the ledger's writes say. */
function world(): { ledger: Ledger; disk: Buffer; put: (write: Write) => void } {
  const ledger = new Ledger(4, SEED);
  const disk = Buffer.alloc(4 * BLOCK_BYTES);
  return {
    ledger,
    disk,
    put: (write) => {
      const bytes = write.kind === 'zero' ? Buffer.alloc(write.blocks * BLOCK_BYTES) : ledger.content(write);
      bytes.copy(disk, write.firstBlock * BLOCK_BYTES);
    },
  };
}

const block = (disk: Buffer, index: number): Buffer => disk.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);

test('a disk that holds its last acknowledged writes is in order, and so is one with a write of unknown fate', () => {
  const { ledger, disk, put } = world();
  const first = ledger.submit('data', 0, 2);
  put(first);
  ledger.acknowledge(first);
  const unknown = ledger.submit('data', 1, 1);
  expect([0, 1, 2, 3].map((index) => ledger.judgeNow(index, block(disk, index)))).toEqual([null, null, null, null]);
  put(unknown);
  expect(ledger.judgeNow(1, block(disk, 1))).toBeNull();
});

test('a lost acknowledged write is found, and whether it had been flushed', () => {
  const { ledger, disk } = world();
  const write = ledger.submit('data', 2, 1);
  ledger.acknowledge(write);
  expect(ledger.judgeNow(2, block(disk, 2))).toBe('block 2 shows zeroes, but write 1 was acknowledged');
  ledger.flushed(ledger.flushing());
  expect(ledger.judgeNow(2, block(disk, 2))).toBe('block 2 shows zeroes, but write 1 was acknowledged and flushed');
});

test('a torn block, a foreign one and one in the wrong place are found', () => {
  const { ledger, disk, put } = world();
  const write = ledger.submit('data', 0, 2);
  put(write);
  ledger.acknowledge(write);
  expect(ledger.judgeNow(0, block(disk, 1))).toBe('block 0 holds the content of block 1');
  block(disk, 1).fill(0, 512, 1024);
  expect(ledger.judgeNow(1, block(disk, 1))).toBe('block 1 is torn or garbled');
  expect(ledger.judgeNow(3, Buffer.alloc(BLOCK_BYTES, 5))).toBe('block 3 holds bytes that nobody wrote');
});

test('a point that shows a write but not one that was acknowledged before it is found; an older point is in order', () => {
  const { ledger, disk, put } = world();
  const cause = ledger.submit('data', 0, 1);
  ledger.acknowledge(cause);
  const effect = ledger.submit('data', 1, 1);
  ledger.acknowledge(effect);
  expect(ledger.judgePoint(disk)).toEqual([]);
  put(effect);
  expect(ledger.judgePoint(disk)).toEqual([
    'block 0 lacks write 1, acknowledged before write 2 was submitted, which is visible',
  ]);
  put(cause);
  expect(ledger.judgePoint(disk)).toEqual([]);
});

test('zeroes written over data are told from data that was never written', () => {
  const { ledger, disk, put } = world();
  const data = ledger.submit('data', 0, 1);
  put(data);
  ledger.acknowledge(data);
  const zero = ledger.submit('zero', 0, 1);
  ledger.acknowledge(zero);
  expect(ledger.judgeNow(0, block(disk, 0))).toBe('block 0 shows write 1, but write 2 was acknowledged');
  put(zero);
  expect(ledger.judgeNow(0, block(disk, 0))).toBeNull();
  expect(ledger.judgePoint(disk)).toEqual([]);
});
