import { NAME_PATTERN } from '@rephub/platform';
import { SimFiles } from '@rephub/platform/sim';
import { expect, it } from 'vitest';
import { probeGrown } from './size-probe.js';

const GROUPS = '/data/groups';
const LARGE = [{ name: 'disk0', sizeBytes: 2 ** 42 }];

it('what a probe leaves behind when the hub is killed in it is no group, and the next one takes it away', async () => {
  const files = new SimFiles();
  await files.makeDirectory(GROUPS);
  files.inject({ operation: 'remove', fault: 'io-error' });
  await expect(probeGrown(files, `${GROUPS}/vm1`, [], LARGE)).rejects.toMatchObject({ code: 'io-error' });
  const left = await files.list(GROUPS);
  expect(left).toHaveLength(1);
  expect(left.filter((name) => NAME_PATTERN.test(name))).toEqual([]);
  expect(await probeGrown(files, `${GROUPS}/vm1`, [], LARGE)).toBeNull();
  expect(await files.list(GROUPS)).toEqual([]);
});

it('a group may have any name, and two may be probed at once', async () => {
  const files = new SimFiles();
  for (const name of ['size-probe', 'vm1']) await files.makeDirectory(`${GROUPS}/${name}`);
  const probes = ['size-probe', 'vm1', 'vm2'].map((name) => probeGrown(files, `${GROUPS}/${name}`, [], LARGE));
  expect(await Promise.all(probes)).toEqual([null, null, null]);
  expect(await files.list(GROUPS)).toEqual(['size-probe', 'vm1']);
});
