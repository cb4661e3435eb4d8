import { describe, expect, test } from 'vitest';
import { address } from './types.js';

describe('an address', () => {
  test.for([
    ['127.0.0.1:9011', { kind: 'tcp', host: '127.0.0.1', port: 9011 }],
    [':0', { kind: 'tcp', host: '127.0.0.1', port: 0 }],
    ['[::1]:9011', { kind: 'tcp', host: '::1', port: 9011 }],
    ['unix:run/hub.sock', { kind: 'unix', path: 'run/hub.sock' }],
    ['/run/hub.sock', { kind: 'unix', path: '/run/hub.sock' }],
    [`/${'s'.repeat(106)}`, { kind: 'unix', path: `/${'s'.repeat(106)}` }],
  ] as const)('is read from %s', ([given, expected]) => {
    expect(address().parse(given)).toEqual(expected);
  });

  test.for(['', '9011', 'host', 'host:65536', '::1:9011', 'unix:'])('is not %j', (given) => {
    expect(address().safeParse(given)).toMatchObject({
      success: false,
      error: { issues: [{ message: 'HOST:PORT, [V6]:PORT or unix:PATH' }] },
    });
  });

  // Node cuts a longer one without a word, and listens at another name than the one that was given.
  test.for([`unix:/${'s'.repeat(107)}`, `/${'ß'.repeat(54)}`])('is no path that a socket cannot have: %s', (given) => {
    expect(address().safeParse(given)).toMatchObject({
      success: false,
      error: { issues: [{ message: 'a path of at most 107 bytes, as a socket can have' }] },
    });
  });
});
