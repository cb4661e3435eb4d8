import { SimClock } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import type { Branch, GroupStore } from '../storage/index.js';
import { OpenTests } from './open-tests.js';

it('a test that is being made when all are dropped is dropped too, and waited for; later ones are not', async () => {
  const told: string[] = [];
  const tests = new OpenTests({
    group: 'vm1',
    clock: new SimClock(),
    tell: (_level, event, message) => told.push(`${event}: ${message}`),
    note: () => undefined,
  });
  let dropped = 0;
  const branch = {
    ...{ name: 'try', number: 5, agentTimeUs: 0, scratchBytes: 0 },
    onOver: () => undefined,
    drop: () => {
      dropped += 1;
      return Promise.resolve();
    },
  } as unknown as Branch;
  let made: (branch: Branch) => void = () => undefined;
  const store = { openBranch: () => new Promise<Branch>((resolve) => (made = resolve)) } as unknown as GroupStore;
  const request = { name: 'try', leaseMs: null, scratchBytes: 1000 };
  const opening = tests.open(store, request);
  let isOver = false;
  const all = tests.dropAll('its group is closed').then(() => (isOver = true));
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  expect(isOver).toBe(false);
  made(branch);
  await expect(opening).rejects.toMatchObject({ code: 'group-failed', message: 'its group is closed' });
  await all;
  expect([dropped, tests.names]).toEqual([1, []]);
  expect(told).toEqual(['test-dropped: test try dropped: its group is closed']);
  const later = tests.open(store, request);
  made(branch);
  await expect(later).resolves.toMatchObject({ name: 'try', seq: 5 });
});
