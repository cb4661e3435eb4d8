/** The only door of the hub's storage: one group's journal, indexes, base images, views and branches. */
export { noSeedFile } from './seed/seeds.js';
export { openGroupStore, type StorePlatform } from './group-store.js';
export { probeGrown } from './size-probe.js';
export type {
  Branch,
  BranchOptions,
  GroupState,
  GroupStore,
  GroupStoreListener,
  GroupStoreOptions,
  Owner,
  Seed,
  StallReason,
  View,
  ViewOptions,
  VolumeState,
} from './store-types.js';
