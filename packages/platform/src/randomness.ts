/** Randomness from outside, so that one seed decides a whole simulated run. */
export interface Randomness {
  /** A float in [0, 1). */
  fraction(): number;
  /** `length` random bytes, fit for identities. */
  bytes(length: number): Buffer;
}
