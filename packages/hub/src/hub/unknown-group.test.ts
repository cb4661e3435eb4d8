import { expect, test } from 'vitest';
import { unknownGroup } from './unknown-group.js';

test.for([
  [[], 'there is no group called vm9; this hub has no groups yet'],
  [['vm1', 'vm2'], 'there is no group called vm9; this hub has vm1, vm2'],
] as const)('with %j', ([known, message]) => {
  expect(unknownGroup('vm9', known)).toMatchObject({ kind: 'config', code: 'unknown-group', message });
});

test('of many groups, and of a long name, only the beginning is said', () => {
  const known = Array.from({ length: 40 }, (_, index) => `vm${index}`);
  expect(unknownGroup('x'.repeat(9000), known).message).toMatch(
    /called x{100}; this hub has vm0, .*, vm9 and 30 more$/,
  );
});
