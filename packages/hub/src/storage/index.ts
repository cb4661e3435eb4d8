/** The only door of the hub's storage: one group's journal, indexes, base images, views and branches. */
export { openGroupStore, type StorePlatform } from './group-store.js';
export type {
  Branch,
  BranchOptions,
  GroupState,
  GroupStore,
  GroupStoreListener,
  GroupStoreOptions,
  Owner,
  StallReason,
  View,
  ViewOptions,
  VolumeState,
} from './store-types.js';
