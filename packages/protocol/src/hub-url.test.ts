import { ConfigFault } from '@rephub/platform';
import { describe, expect, test } from 'vitest';
import { dialAddress, type HubUrl, parseHubUrl } from './hub-url.js';

function faultOf(run: () => unknown): ConfigFault {
  try {
    run();
  } catch (thrown) {
    if (thrown instanceof ConfigFault) return thrown;
    throw thrown;
  }
  throw new Error('nothing was thrown');
}

const GOOD: readonly (readonly [string, Omit<HubUrl, 'text'>])[] = [
  ['tcp://hub:9010', { transport: 'tcp', address: { kind: 'tcp', host: 'hub', port: 9010 }, path: null }],
  ['tcp://hub', { transport: 'tcp', address: { kind: 'tcp', host: 'hub', port: 9010 }, path: null }],
  [
    'tcp://hub.example.org:1/',
    { transport: 'tcp', address: { kind: 'tcp', host: 'hub.example.org', port: 1 }, path: null },
  ],
  ['tcp://10.0.0.1:65535', { transport: 'tcp', address: { kind: 'tcp', host: '10.0.0.1', port: 65_535 }, path: null }],
  ['tcp://[::1]:9010', { transport: 'tcp', address: { kind: 'tcp', host: '::1', port: 9010 }, path: null }],
  ['tcp://[fe80::1]', { transport: 'tcp', address: { kind: 'tcp', host: 'fe80::1', port: 9010 }, path: null }],
  ['unix:///run/rephub.sock', { transport: 'unix', address: { kind: 'unix', path: '/run/rephub.sock' }, path: null }],
  ['unix:///tmp/a%20b', { transport: 'unix', address: { kind: 'unix', path: '/tmp/a b' }, path: null }],
  ['tls://hub:9010', { transport: 'tls', address: { kind: 'tcp', host: 'hub', port: 9010 }, path: null }],
  ['ws://hub/link', { transport: 'ws', address: { kind: 'tcp', host: 'hub', port: 80 }, path: '/link' }],
  ['wss://hub:8443', { transport: 'wss', address: { kind: 'tcp', host: 'hub', port: 8443 }, path: '/' }],
];

const BAD: readonly (readonly [string, string])[] = [
  ['', 'no scheme'],
  ['hub:9010', 'no scheme'],
  ['http://hub', 'scheme http is none of'],
  ['tcp://', 'the host is missing'],
  ['tcp://:9010', 'the host is missing'],
  ['tcp://hub:', 'port "" is not'],
  ['tcp://hub:x', 'port "x" is not'],
  ['tcp://hub:65536', 'port "65536" is not'],
  ['tcp://hub:-1', 'port "-1" is not'],
  ['tcp://hub:0', 'port 0 is only for listening'],
  ['tcp://::1:9010', 'an IPv6 address needs [ ]'],
  ['tcp://[::1', 'is not HOST:PORT'],
  ['tcp://[hub]:9010', 'is not HOST:PORT'],
  ['tcp://[abc]:9010', 'is not an IPv6 address'],
  ['tcp://me@hub', 'a user name'],
  ['tcp://hub/path', 'a path (/path)'],
  ['tcp://hub?x=1', 'have no place'],
  ['tcp://hub name', 'have no place'],
  ['tcp://-hub', 'is not a host name'],
  ['unix://run/x', 'must be absolute'],
  ['unix:///', 'does not name a socket'],
  ['unix:///a%zz', 'a % is not followed'],
  ['unix:///a%00b', 'does not name a socket'],
  [`unix:///${'x'.repeat(107)}`, 'has 108 bytes, at most 107'],
];

describe('hub URLs', () => {
  test.each(GOOD)('%s is understood', (text, expected) => {
    expect(parseHubUrl(text)).toEqual({ ...expected, text });
  });

  test.each(BAD)('"%s" is refused: %s', (text, why) => {
    const fault = faultOf(() => parseHubUrl(text));
    expect(fault.code).toBe('bad-hub-url');
    expect(fault.message).toContain(why);
    expect(fault.message).toContain(JSON.stringify(text));
  });

  test('port 0 is fine where one listens', () => {
    expect(parseHubUrl('tcp://127.0.0.1:0', 'listen').address).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 0 });
  });

  test('a transport that is not built yet is refused by whoever connects', () => {
    for (const text of ['tls://hub', 'ws://hub', 'wss://hub']) {
      expect(faultOf(() => dialAddress(parseHubUrl(text))).code).toBe('transport-not-yet');
    }
    expect(dialAddress(parseHubUrl('unix:///x'))).toEqual({ kind: 'unix', path: '/x' });
  });
});
