/** Randomness from outside, so that one seed decides a whole simulated run. */
export interface Randomness {
  /** A float in [0, 1). */
  fraction(): number;
  /** `length` random bytes, fit for identities. */
  bytes(length: number): Buffer;
}

/** A random UUID (version 4) in its usual text form, lower case. */
export function randomUuid(randomness: Randomness): string {
  const bytes = randomness.bytes(16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
