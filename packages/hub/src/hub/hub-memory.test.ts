import { StorageFault } from '@rephub/platform';
import { simPlatform } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { noCatalogue } from '../catalogue/catalogue.js';
import type { GroupStoreOptions } from '../storage/index.js';
import { Hub } from './hub.js';

it('all groups of a hub share what --index-cache gives, and one amount for what waits to be written (BOUND)', async () => {
  const host = simPlatform(1);
  const opened: GroupStoreOptions[] = [];
  const open = async (): Promise<Hub> =>
    await Hub.open(host, {
      directory: '/data',
      software: 'test',
      storage: { retentionMs: 0, indexBytes: 12_345_678 },
      openStore: (_platform, options) => {
        opened.push(options);
        return Promise.reject(new StorageFault('not-here', 'the options are enough'));
      },
      openCatalogue: () => Promise.resolve(noCatalogue()),
    });
  await (await open()).close(false);
  for (const name of ['vm1', 'vm2', 'vm3']) await host.files.makeDirectory(`/data/groups/${name}`);
  const hub = await open();
  const memories = opened.map(({ memory }) => memory);
  expect(memories).toHaveLength(3);
  expect(memories[0]?.indexes.totalBytes).toBe(12_345_678);
  expect(memories.every((memory) => memory !== undefined && memory === memories[0])).toBe(true);
  await hub.close(false);
});
