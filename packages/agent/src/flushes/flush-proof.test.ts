import { describe, expect, it } from 'vitest';
import { FlushProof } from './flush-proof.js';

describe('flush proof (promise CLEAR)', () => {
  it('proves nothing that was written after the flush was submitted', () => {
    const proof = new FlushProof();
    proof.written(0, 1);
    const covered = proof.coveredBy(0);
    proof.written(0, 2);
    proof.flushed(0, covered);
    expect(covered).toBe(1);
    expect(proof.hasUnflushed(0)).toBe(true);
    proof.flushed(0, proof.coveredBy(0));
    expect(proof.hasUnflushed(0)).toBe(false);
  });

  it('is each volume’s own, whatever number it has', () => {
    const proof = new FlushProof();
    proof.written(254, 1);
    proof.written(3, 2);
    proof.flushed(3, proof.coveredBy(3));
    expect([proof.hasUnflushed(3), proof.hasUnflushed(254)]).toEqual([false, true]);
    expect(proof.coveredBy(254)).toBe(1);
  });

  it('has a copy that no flush has covered until one that was submitted after it', () => {
    const proof = new FlushProof();
    proof.written(0, 1);
    const before = proof.coveredBy(0);
    proof.copied(0, 2);
    proof.flushed(0, before);
    expect(proof.hasUnflushedCopy(0)).toBe(true);
    proof.flushed(0, proof.coveredBy(0));
    expect(proof.hasUnflushedCopy(0)).toBe(false);
  });
});
