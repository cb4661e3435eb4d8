/** What nearly every test of the whole ends with, as one line. Knows vitest. */
import { expect } from 'vitest';
import { type Comparison } from './contents.js';
import { compareWithReplica, type HubPlace } from './rephub-system.js';
import { type Scope } from './scope.js';

/** The comparison found no difference; a failure shows what cmp said. */
export function expectSame(comparison: Comparison): void {
  expect(comparison).toEqual({ verdict: 'same', said: '' });
}

/** The replica at the hub is the disk, byte for byte. */
export async function expectReplica(
  scope: Scope,
  disk: string,
  hub: HubPlace,
  group = 'vm1',
  volume = 'disk0',
): Promise<void> {
  expectSame(await compareWithReplica(scope, disk, hub, group, volume));
}
