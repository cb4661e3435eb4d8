/** Randomness from the operating system. */
import { randomBytes } from 'node:crypto';
import type { Randomness } from '../randomness.js';

/** Real randomness: `bytes` from the kernel's generator, `fraction` from V8's. */
export function nodeRandomness(): Randomness {
  return { fraction: () => Math.random(), bytes: (length) => randomBytes(length) };
}
