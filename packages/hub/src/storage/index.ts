/** The only door of the hub's storage: one group's journal, indexes, base images, views and branches. */
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
import type { Platform } from '@rephub/platform';
import type { GroupStore, GroupStoreOptions } from './store-types.js';

/** Opens, and recovers, one group's storage; makes it when it is missing. */
export declare const openGroupStore: (
  platform: Pick<Platform, 'clock' | 'randomness' | 'files'>,
  options: GroupStoreOptions,
) => Promise<GroupStore>;
