/** A bug to be planted: one piece of text in one file replaced. What it breaks must be found within `seeds` seeds. */
import { type ProfileName } from '../profiles.js';
import { type PromiseId } from '../promises/index.js';

export interface Mutant {
  readonly id: string;
  /** What the bug breaks first; what finds it may be another one's checker. */
  readonly promise: PromiseId;
  /** Below packages/. */
  readonly file: string;
  /** Must be found exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Seeds biased towards what it breaks (profiles.ts); any seeds when left out. */
  readonly profile?: ProfileName;
}
