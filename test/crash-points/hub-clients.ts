/** What comes to the hub's exports: readers of the replica, and failover tests. */
import type { HubServer } from '@rephub/hub';
import { type ClientPlatform, connectNbd, flushDevice, readBytes, writeBytes } from '@rephub/nbd';
import { PAGE, type Pages, pagesOfDevice } from './pages.js';

export const HUB_EXPORTS = { kind: 'unix', path: '/run/hub.sock' } as const;

/** The newest consistent point of a volume, read as others read it. */
export async function readReplica(platform: ClientPlatform, name: string): Promise<Pages> {
  const client = await connectNbd(platform, `nbd+unix:///vm1%2F${name}?socket=${HUB_EXPORTS.path}`);
  const pages = await pagesOfDevice(client);
  await client.close();
  return pages;
}

/** Opens a branch, writes to it, looks at it, drops it: what failover-test does with a check. */
export async function testFailover(platform: ClientPlatform, hub: HubServer | null): Promise<void> {
  const group = hub?.hub.group('vm1');
  if (group === undefined) return;
  await group.openTest({ name: 'try', leaseMs: null, scratchBytes: 1 << 20 });
  const client = await connectNbd(platform, `nbd+unix:///vm1%2Fdisk0!try?socket=${HUB_EXPORTS.path}`);
  await writeBytes(client, 2 * PAGE, Buffer.alloc(3 * PAGE, 'a test; '));
  await flushDevice(client);
  await readBytes(client, 0, 8 * PAGE);
  await client.close();
  await group.tests.drop('try', 'over');
}
