import { describe, expect, it } from 'vitest';
import { type Change, Content, PAGE_BYTES } from './content.js';
import { SeededRandomness } from './randomness.js';

const SIZE = 40 * PAGE_BYTES;

/** A change anywhere in the file, whole pages and parts of them. */
function anyChange(random: SeededRandomness): Change {
  const position = random.chance(0.4) ? random.below(32) * PAGE_BYTES : random.below(SIZE - 4 * PAGE_BYTES);
  const lengthBytes = random.chance(0.4) ? (1 + random.below(3)) * PAGE_BYTES : 1 + random.below(3 * PAGE_BYTES);
  switch (random.below(8)) {
    case 0:
      return { kind: 'truncate', sizeBytes: random.below(SIZE) };
    case 1:
    case 2:
      return { kind: 'punch', position, lengthBytes };
    case 3:
      return { kind: 'allocate', position, lengthBytes };
    default:
      return { kind: 'write', position, bytes: random.bytes(lengthBytes) };
  }
}

/** The same change to a plain buffer and its size. */
function applyTo(model: { bytes: Buffer; size: number }, change: Change): void {
  switch (change.kind) {
    case 'write':
      model.bytes.set(change.bytes, change.position);
      model.size = Math.max(model.size, change.position + change.bytes.length);
      break;
    case 'truncate':
      if (change.sizeBytes < model.size) model.bytes.fill(0, change.sizeBytes);
      model.size = change.sizeBytes;
      break;
    case 'punch':
      model.bytes.fill(0, change.position, Math.min(change.position + change.lengthBytes, model.size));
      break;
    case 'allocate':
      model.size = Math.max(model.size, change.position + change.lengthBytes);
  }
}

function bytesOf(content: Content): Buffer {
  const buffer = Buffer.alloc(content.sizeBytes, 0xee);
  expect(content.read(buffer, 0)).toBe(content.sizeBytes);
  return buffer;
}

describe('Content', () => {
  it('reads as a plain buffer with the same changes, and its clones never change with it', () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      const random = new SeededRandomness(seed);
      const content = new Content();
      const model = { bytes: Buffer.alloc(SIZE), size: 0 };
      const clones: { clone: Content; bytes: Buffer }[] = [];
      for (let step = 0; step < 60; step += 1) {
        const change = anyChange(random);
        content.apply(change);
        applyTo(model, change);
        if (random.chance(0.1)) clones.push({ clone: content.clone(), bytes: bytesOf(content) });
        const [first] = clones;
        if (first !== undefined && random.chance(0.1)) {
          first.clone.apply({ kind: 'write', position: 1, bytes: Buffer.from('changed') });
          first.bytes = bytesOf(first.clone);
        }
      }
      expect(bytesOf(content).equals(model.bytes.subarray(0, model.size)), `seed ${seed}`).toBe(true);
      for (const { clone, bytes } of clones) expect(bytesOf(clone).equals(bytes), `clone, seed ${seed}`).toBe(true);
    }
  });

  it('adopts changes from another content as if it had made them itself', () => {
    for (let seed = 1; seed <= 100; seed += 1) {
      const random = new SeededRandomness(seed);
      const seen = new Content();
      const stored = new Content();
      const slowly = new Content();
      for (let round = 0; round < 6; round += 1) {
        const changes = Array.from({ length: 1 + random.below(6) }, () => anyChange(random));
        for (const change of changes) {
          seen.apply(change);
          slowly.apply(change);
        }
        stored.adopt(changes, seen);
        expect(bytesOf(stored).equals(bytesOf(slowly)), `seed ${seed}, round ${round}`).toBe(true);
        expect([stored.allocatedBytes, stored.nextData(0)], `seed ${seed}`).toEqual([
          slowly.allocatedBytes,
          slowly.nextData(0),
        ]);
      }
    }
  });
});
