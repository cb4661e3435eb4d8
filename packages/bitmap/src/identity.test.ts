import { describe, expect, it } from 'vitest';
import {
  decodeIdentity,
  encodeIdentity,
  IDENTITY_BLOCK_BYTES,
  IDENTITY_SLOT_BYTES,
  type StoredIdentity,
} from './identity.js';

const ID = '0b0e7a0c-31a9-4c1e-8a54-0a4c1c1f2d3e';
const identity: StoredIdentity = {
  agentId: ID,
  session: 2 ** 40,
  group: 'vm1',
  line: { id: ID, parent: { id: ID, number: 12 } },
  lastNumber: Number.MAX_SAFE_INTEGER,
  restsOn: 5,
  durableNumber: 6,
  notes: { paused: 'yes, "really" ✓' },
  stage: 'made',
  trusted: true,
  reason: '',
  clean: false,
  kept: 'synced',
  volumes: [0, 254],
};

/** Both slots, as after two saves. */
const fileOf = (older: StoredIdentity, newer: StoredIdentity): Buffer =>
  Buffer.concat([encodeIdentity(newer, 8), encodeIdentity(older, 7)]);

describe('the identity', () => {
  it('comes back as it was stored, from the newer slot', () => {
    const newer = { ...identity, session: 3, line: { id: ID, parent: null }, trusted: false };
    expect(decodeIdentity(fileOf(identity, newer))).toEqual({ identity: newer, sequence: 8 });
    expect(decodeIdentity(Buffer.concat([encodeIdentity(newer, 8), encodeIdentity(identity, 9)])).identity).toEqual(
      identity,
    );
  });

  it('CORRUPT: no flipped bit and no lost block loses the newer one', () => {
    const newer = { ...identity, trusted: false };
    const file = fileOf(identity, newer);
    for (let bit = 0; bit < file.length * 8; bit += 11) {
      file[bit >>> 3]! ^= 1 << (bit & 7);
      expect(decodeIdentity(file).identity.trusted).toBe(false);
      file[bit >>> 3]! ^= 1 << (bit & 7);
    }
    for (let at = 0; at < file.length; at += IDENTITY_BLOCK_BYTES) {
      const spoiled = Buffer.from(file).fill(0, at, at + IDENTITY_BLOCK_BYTES);
      expect(decodeIdentity(spoiled).identity.trusted).toBe(false);
    }
  });

  it('a torn slot leaves the one before', () => {
    const file = fileOf(identity, { ...identity, session: 9 });
    file.fill(0xff, 100, IDENTITY_BLOCK_BYTES + 700);
    expect(decodeIdentity(file).sequence).toBe(7);
    file.fill(0xff, IDENTITY_SLOT_BYTES);
    expect(() => decodeIdentity(file)).toThrow('no image');
    expect(() => decodeIdentity(Buffer.alloc(100))).toThrow('no image');
  });

  it('impossible values are not taken for an identity, notes that are too long are refused', () => {
    const wrong = [{ session: -1 }, { agentId: 'x' }, { notes: { a: 1 } }, { line: { id: ID } }, { volumes: ['a'] }];
    for (const patch of wrong) {
      const slot = encodeIdentity({ ...identity, ...patch } as unknown as StoredIdentity, 2);
      expect(() => decodeIdentity(slot)).toThrow('no image');
    }
    const notes = { long: 'x'.repeat(IDENTITY_BLOCK_BYTES) };
    expect(() => encodeIdentity({ ...identity, notes }, 1)).toThrow('are there');
  });
});
