import { describe, expect, it } from 'vitest';
import { FlushProof } from './flush-proof.js';

describe('flush proof (promise CLEAR)', () => {
  it('proves nothing that was written after the flush was submitted', () => {
    const proof = new FlushProof();
    proof.written(0, 1);
    const covered = proof.coveredBy(0);
    proof.written(0, 2);
    proof.flushed(0, covered);
    expect(proof.proven()).toBe(1);
    expect(proof.hasUnflushed(0)).toBe(true);
  });

  it('waits for the volume that has something unflushed', () => {
    const proof = new FlushProof();
    proof.written(0, 1);
    proof.written(1, 2);
    proof.flushed(1, proof.coveredBy(1));
    expect(proof.proven()).toBe(0);
    proof.flushed(0, proof.coveredBy(0));
    expect(proof.proven()).toBe(2);
  });

  it('takes numbers with gaps between them, up to the highest', () => {
    const proof = new FlushProof();
    proof.written(254, 1);
    proof.written(3, 2);
    proof.flushed(3, proof.coveredBy(3));
    expect([proof.proven(), proof.hasUnflushed(254)]).toEqual([0, true]);
    proof.flushed(254, proof.coveredBy(254));
    expect(proof.proven()).toBe(2);
  });

  it('does not wait for a volume that was never written to', () => {
    const proof = new FlushProof();
    proof.written(0, 7);
    proof.flushed(0, 7);
    expect(proof.proven()).toBe(7);
  });
});
