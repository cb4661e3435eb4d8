/** The real world: the Node implementations of the seams. Only commands and tests import this door. */
import type { Platform } from '../platform.js';
import { nodeBootId } from './boot-id.js';
import { nodeClock } from './clock.js';
import { nodeCodecs } from './codecs.js';
import { nodeFiles } from './files.js';
import { nodeNetwork, type NodeNetworkOptions } from './network.js';
import { nodeRandomness } from './randomness.js';

export { BusyPoll } from './busy-poll.js';
export { nodeClock } from './clock.js';
export { nodeCodecs } from './codecs.js';
export { nodeFiles } from './files.js';
export { adoptListener, nodeNetwork } from './network.js';
export { listenFault } from './network-faults.js';
export { nodeRandomness } from './randomness.js';

/** This machine's clock, randomness, files and sockets. */
export function nodePlatform(options: NodeNetworkOptions = {}): Platform {
  return {
    clock: nodeClock(),
    randomness: nodeRandomness(),
    files: nodeFiles(),
    network: nodeNetwork(options),
    codecs: nodeCodecs(),
    bootId: () => nodeBootId(),
  };
}
