import type { Hello } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { admit, newerOwner } from './admission.js';
import { AGENT, helloOf, NONCE, OTHER_AGENT, OTHER_NONCE } from './testing/hello.js';

const owner = { agentId: AGENT, session: 5, nonce: NONCE };

const codeOf = (...args: Parameters<typeof admit>): string => {
  const answer = admit(...args);
  return answer.kind === 'refuse' ? answer.code : answer.kind;
};

test('a group that nobody owns takes any agent', () => {
  expect(codeOf(helloOf({ agentId: OTHER_AGENT }), null, null)).toBe('admit');
});

test('the same process of the owner comes back after a cut', () => {
  expect(codeOf(helloOf(), owner, null)).toBe('admit');
});

test('a newer session of the owner is admitted', () => {
  expect(codeOf(helloOf({ session: 6, nonce: OTHER_NONCE }), owner, null)).toBe('admit');
});

test('an older session of the owner is refused', () => {
  expect(codeOf(helloOf({ session: 4, nonce: OTHER_NONCE }), owner, null)).toBe('session-back');
});

test('a newer session whose state does not come after the last one is refused, as far as that can be told', () => {
  const newer = (earlierSessions: Hello['earlierSessions']): string =>
    codeOf(
      helloOf({ session: 8, nonce: OTHER_NONCE, ...(earlierSessions === undefined ? {} : { earlierSessions }) }),
      owner,
      null,
    );
  const known = { session: 5, nonce: NONCE.slice(0, 8) };
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
  expect(codeOf(helloOf({ nonce: OTHER_NONCE }), owner, null)).toBe('session-copied');
});

test('another agent is refused and told how it could be let in', () => {
  const answer = admit(helloOf({ agentId: OTHER_AGENT }), owner, null);
  expect(answer).toMatchObject({ kind: 'refuse', code: 'foreign-agent', retryAfterMs: null });
  expect(answer.kind === 'refuse' && answer.message).toContain('rephub enroll vm1');
});

test('an enrolled successor takes the group over, and the owner itself is still admitted', () => {
  expect(codeOf(helloOf({ agentId: OTHER_AGENT, session: 1 }), owner, { replaces: AGENT })).toBe('take-over');
  expect(codeOf(helloOf(), owner, { replaces: AGENT })).toBe('admit');
});

test('an enrolment is void once the owner has changed', () => {
  expect(codeOf(helloOf({ agentId: OTHER_AGENT }), owner, { replaces: OTHER_AGENT })).toBe('foreign-agent');
});

test('a protocol that this hub does not speak is refused on either side of ours', () => {
  expect(codeOf(helloOf({ protocol: { min: 2, max: 3 } }), null, null)).toBe('protocol-version');
  expect(codeOf(helloOf({ protocol: { min: 1, max: 7 } }), null, null)).toBe('admit');
});

test('volumes that share a name or an index are refused', () => {
  const twice = (index: number, name: string) =>
    helloOf({ volumes: [...helloOf().volumes, { index, name, sizeBytes: 1 }] });
  expect(codeOf(twice(1, 'disk0'), null, null)).toBe('bad-volumes');
  expect(codeOf(twice(0, 'disk1'), null, null)).toBe('bad-volumes');
  expect(codeOf(twice(1, 'disk1'), null, null)).toBe('admit');
});

test('a handshake under way counts as the owner when it is newer', () => {
  expect(newerOwner(owner, { ...owner, session: 6 })?.session).toBe(6);
  expect(newerOwner({ ...owner, session: 7 }, { ...owner, session: 6 })?.session).toBe(7);
  expect(newerOwner(null, owner)).toBe(owner);
  expect(newerOwner(owner, null)).toBe(owner);
  expect(newerOwner(owner, { agentId: OTHER_AGENT, session: 1, nonce: OTHER_NONCE })?.agentId).toBe(OTHER_AGENT);
});
