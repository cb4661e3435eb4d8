import type { Hello } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { admit, newerOwner } from './admission.js';

const A = '00000000-0000-4000-8000-00000000000a';
const B = '00000000-0000-4000-8000-00000000000b';
const N1 = '00000000-0000-4000-8000-000000000001';
const N2 = '00000000-0000-4000-8000-000000000002';
const owner = { agentId: A, session: 5, nonce: N1 };

function hello(parts: Partial<Hello> = {}): Hello {
  return {
    protocol: { min: 1, max: 1 },
    features: [],
    software: 'test',
    group: 'vm1',
    agentId: A,
    session: 5,
    nonce: N1,
    line: { id: N2, parent: null },
    lastNumber: 0,
    restsOn: 0,
    durableNumber: 0,
    window: null,
    tracking: 'new',
    volumes: [{ index: 0, name: 'disk0', sizeBytes: 1024 }],
    mode: 'async',
    ...parts,
  };
}

const codeOf = (...args: Parameters<typeof admit>): string => {
  const answer = admit(...args);
  return answer.kind === 'refuse' ? answer.code : answer.kind;
};

test('a group that nobody owns takes any agent', () => {
  expect(codeOf(hello({ agentId: B }), null, null)).toBe('admit');
});

test('the same process of the owner comes back after a cut', () => {
  expect(codeOf(hello(), owner, null)).toBe('admit');
});

test('a newer session of the owner is admitted', () => {
  expect(codeOf(hello({ session: 6, nonce: N2 }), owner, null)).toBe('admit');
});

test('an older session of the owner is refused', () => {
  expect(codeOf(hello({ session: 4, nonce: N2 }), owner, null)).toBe('session-back');
});

test('a newer session whose state does not come after the last one is refused, as far as that can be told', () => {
  const newer = (earlierSessions: Hello['earlierSessions']): string =>
    codeOf(
      hello({ session: 8, nonce: N2, ...(earlierSessions === undefined ? {} : { earlierSessions }) }),
      owner,
      null,
    );
  const known = { session: 5, nonce: N1.slice(0, 8) };
  const other = { session: 5, nonce: 'ffffffff' };
  const [before, after] = [
    { session: 3, nonce: 'abababab' },
    { session: 7, nonce: 'cdcdcdcd' },
  ];
  expect(newer([after, known, before])).toBe('admit');
  expect(newer([after, other, before])).toBe('session-back');
  expect(newer([after, before])).toBe('session-back');
  // All that it knows is newer: so many restarts that the last one fell off its list, or an agent that kept none before.
  expect(newer([after])).toBe('admit');
  expect(newer([])).toBe('admit');
  expect(newer(undefined)).toBe('admit');
});

test('the same session number from another process is refused', () => {
  expect(codeOf(hello({ nonce: N2 }), owner, null)).toBe('session-copied');
});

test('another agent is refused and told how it could be let in', () => {
  const answer = admit(hello({ agentId: B }), owner, null);
  expect(answer).toMatchObject({ kind: 'refuse', code: 'foreign-agent', retryAfterMs: null });
  expect(answer.kind === 'refuse' && answer.message).toContain('rephub enroll vm1');
});

test('an enrolled successor takes the group over, and the owner itself is still admitted', () => {
  expect(codeOf(hello({ agentId: B, session: 1 }), owner, { replaces: A })).toBe('take-over');
  expect(codeOf(hello(), owner, { replaces: A })).toBe('admit');
});

test('an enrolment is void once the owner has changed', () => {
  expect(codeOf(hello({ agentId: B }), owner, { replaces: B })).toBe('foreign-agent');
});

test('a protocol that this hub does not speak is refused on either side of ours', () => {
  expect(codeOf(hello({ protocol: { min: 2, max: 3 } }), null, null)).toBe('protocol-version');
  expect(codeOf(hello({ protocol: { min: 1, max: 7 } }), null, null)).toBe('admit');
});

test('volumes that share a name or an index are refused', () => {
  const twice = (index: number, name: string) =>
    hello({ volumes: [...hello().volumes, { index, name, sizeBytes: 1 }] });
  expect(codeOf(twice(1, 'disk0'), null, null)).toBe('bad-volumes');
  expect(codeOf(twice(0, 'disk1'), null, null)).toBe('bad-volumes');
  expect(codeOf(twice(1, 'disk1'), null, null)).toBe('admit');
});

test('a handshake under way counts as the owner when it is newer', () => {
  expect(newerOwner(owner, { ...owner, session: 6 })?.session).toBe(6);
  expect(newerOwner({ ...owner, session: 7 }, { ...owner, session: 6 })?.session).toBe(7);
  expect(newerOwner(null, owner)).toBe(owner);
  expect(newerOwner(owner, null)).toBe(owner);
  expect(newerOwner(owner, { agentId: B, session: 1, nonce: N2 })?.agentId).toBe(B);
});
