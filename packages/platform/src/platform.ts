import type { BlockCodec } from './block-codec.js';
import type { Clock } from './clock.js';
import type { FileSystem } from './files.js';
import type { Network } from './network.js';
import type { Randomness } from './randomness.js';

/** Everything outside that the core may touch, in one bundle: real in the commands, simulated in tests. */
export interface Platform {
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly files: FileSystem;
  readonly network: Network;
  /** What there is to compress with, the fastest first. */
  readonly codecs: readonly BlockCodec[];
  /** Names the run of the host, from its start to its end; null where nothing does. */
  readonly bootId: () => Promise<string | null>;
}
