/** The only door of the hub's storage: one group's journal, indexes, base images, views and branches. */
export { isJournalDamage, isWantOfFile, mayPass } from './passing-faults.js';
export { noSeedFile } from './seed/seeds.js';
export { openGroupStore } from './group-store.js';
export { probeGrown } from './size-probe.js';
export { SharedMemory } from './shared-memory.js';
export type {
  Branch,
  BranchOptions,
  GroupState,
  GroupStore,
  GroupStoreListener,
  GroupStoreOptions,
  LeftBehind,
  Owner,
  Seed,
  StallReason,
  StoreMemory,
  StorePlatform,
  View,
  ViewOptions,
  VolumeState,
} from './store-types.js';
