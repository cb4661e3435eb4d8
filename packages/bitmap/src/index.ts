export { type InspectedState, inspectState } from './inspect.js';
export { storeHubNumbers } from './numbering.js';
export type {
  ByteRange,
  Found,
  Identity,
  IdentityPatch,
  Line,
  TrackedVolume,
  TrackerHooks,
  TrackerOptions,
  WantedVolume,
} from './options.js';
export { lockState } from './state-lock.js';
export { Tracker } from './tracker.js';
