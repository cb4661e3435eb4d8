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

it('a name that is taken, wrong or unknown is refused with what to do', async () => {
  const tests = new OpenTests({ group: 'vm1', clock: new SimClock(), tell: () => undefined, note: () => undefined });
  const branch = { name: 'try', number: 5, agentTimeUs: 0, onOver: () => undefined } as unknown as Branch;
  const store = { openBranch: () => Promise.resolve(branch) } as unknown as GroupStore;
  await tests.open(store, { name: 'try', leaseMs: null, scratchBytes: 1000 });
  const opening = (name: string): Promise<unknown> => tests.open(store, { name, leaseMs: null, scratchBytes: 1000 });
  await expect(opening('try')).rejects.toMatchObject({
    code: 'test-exists',
    message: 'group vm1 has an open test called try; give another name, or end it: rephub test drop vm1 try',
  });
  await expect(opening('a b')).rejects.toMatchObject({
    code: 'bad-name',
    message:
      "'a b' is not a test's name: a name is a letter or digit, then up to 63 of letters, digits, dot, underscore, dash",
  });
  expect(() => tests.renew('other')).toThrow('group vm1 has no open test called other; open are try');
});
