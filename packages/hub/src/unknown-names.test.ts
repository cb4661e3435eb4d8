import { expect, test } from 'vitest';
import { unknownGroup, unknownTest, unknownVolume } from './unknown-names.js';

test.for([
  [[], 'there is no group called vm9; this hub has no groups yet'],
  [['vm1', 'vm2'], 'there is no group called vm9; this hub has vm1, vm2'],
] as const)('a group, with %j', ([known, message]) => {
  expect(unknownGroup('vm9', known)).toMatchObject({ kind: 'config', code: 'unknown-group', message });
});

test('a volume: those of the group are named', () => {
  expect(unknownVolume('disk9', ['disk0', 'data'])).toMatchObject({
    code: 'unknown-volume',
    message: 'there is no volume called disk9 in this group; it has disk0, data',
  });
  expect(unknownVolume('disk9', []).message).toMatch(/; it has no volumes yet$/);
});

test('a test: those that are open are named', () => {
  expect(unknownTest('vm1', 'try', ['test-1'])).toMatchObject({
    code: 'unknown-test',
    message: 'group vm1 has no open test called try; open are test-1',
  });
  expect(unknownTest('vm1', 'try', []).message).toMatch(/; none is open$/);
});

test('of many names, and of a long one, only the beginning is said', () => {
  const known = Array.from({ length: 40 }, (_, index) => `vm${index}`);
  expect(unknownGroup('x'.repeat(9000), known).message).toMatch(
    /called x{100}; this hub has vm0, .*, vm9 and 30 more$/,
  );
});
