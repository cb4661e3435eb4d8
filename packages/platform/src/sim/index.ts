/**
 * A simulated world for tests: virtual time, seeded randomness, a disk that crashes, a network that is cut.
 * The whole agent or hub runs on it in one thread, and one seed decides the run.
 */
import type { Platform } from '../platform.js';
import { SimClock } from './clock.js';
import { pureLz4 } from '../lz4-block.js';
import { SimFiles } from './files.js';
import { SimNetwork } from './network.js';
import { SeededRandomness } from './randomness.js';

export { pureLz4 } from '../lz4-block.js';
export { SimClock, type SimClockOptions } from './clock.js';
export { type FaultRule, type InjectedFault, type SimFault, type SimOperation } from './fault-rules.js';
export { type LifeState } from './life.js';
export { type CrashOptions, SimFiles, type SimFilesOptions, SimulatedCrash } from './files.js';
export { type Direction, type SimConnection, type SimLink } from './link.js';
export { drip, type LinkConditions } from './link-conditions.js';
export { ForwardingConnection } from './forwarding-connection.js';
export { type HostNetwork, SimNetwork, type SimNetworkOptions } from './network.js';
export { type SimHost, SimProcess } from './process.js';
export { SeededRandomness } from './randomness.js';
export { type ConnectionTap, tappedNetwork } from './tapped-network.js';
export { type SimSnapshot } from './snapshot.js';
export { type CrashFate, type Fate, SECTOR_BYTES } from './survival.js';

export interface SimPlatform extends Platform {
  readonly clock: SimClock;
  readonly randomness: SeededRandomness;
  readonly files: SimFiles;
  readonly network: SimNetwork;
}

/** A whole simulated world from one seed. Share `clock` and `network` between the hosts of one world. */
export function simPlatform(seed: number, shared: Partial<SimPlatform> = {}): SimPlatform {
  const clock = shared.clock ?? new SimClock();
  const files = shared.files ?? new SimFiles({ clock });
  return {
    clock,
    randomness: shared.randomness ?? new SeededRandomness(seed),
    files,
    network: shared.network ?? new SimNetwork({ clock }),
    codecs: [pureLz4],
    bootId: shared.bootId ?? (() => Promise.resolve(files.bootId)),
  };
}
