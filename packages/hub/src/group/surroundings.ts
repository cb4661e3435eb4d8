/** What all groups of a hub have in common: the machine, the hub's name, how storage is opened, where it is catalogued. */
import type { Platform } from '@rephub/platform';
import type { Catalogue } from '../catalogue/catalogue.js';
import type { HubIdentity } from '../identity.js';
import type { GroupStore, GroupStoreOptions } from '../storage/index.js';

export type OpenStore = (
  platform: Pick<Platform, 'clock' | 'randomness' | 'files' | 'codecs'>,
  options: GroupStoreOptions,
) => Promise<GroupStore>;

export interface GroupSurroundings {
  readonly platform: Platform;
  readonly identity: HubIdentity;
  readonly software: string;
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
  readonly storage: Pick<
    GroupStoreOptions,
    'retentionMs' | 'indexBytes' | 'memory' | 'journalMaxBytes' | 'reserveBytes' | 'segmentBytes'
  >;
  readonly openStore: OpenStore;
  readonly catalogue: Catalogue;
  /** Returns a question: are the events that were told until now on the disk? */
  readonly toldSoFar: () => () => boolean;
}
