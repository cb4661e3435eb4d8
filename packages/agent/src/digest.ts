/** What stands for a name where there is no room for it: in the notes of the identity file, which have one block together. */
import { createHash } from 'node:crypto';

/** So many of a name tell those of one group apart. */
export const NAME_DIGITS = 6;

/** Hexadecimal digits of SHA-256. */
export function digest(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}
