import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { exportUri, formatDeviceUri, parseDeviceUri, parseListenUri, parseNbdUri } from './uri.js';

const tcp = (host: string, port = 10_809) => ({ kind: 'tcp', host, port });
const unix = (path: string) => ({ kind: 'unix', path });

describe('NBD URIs', () => {
  it.each([
    ['nbd://example.com/disk', tcp('example.com'), 'disk'],
    ['nbd://example.com', tcp('example.com'), ''],
    ['nbd://example.com/', tcp('example.com'), ''],
    ['nbd://example.com//disk', tcp('example.com'), '/disk'],
    ['nbd://example.com:10810/hello%20world', tcp('example.com', 10_810), 'hello world'],
    ['nbd://[::1]:10810/x', tcp('::1', 10_810), 'x'],
    ['nbd://127.0.0.1:/x', tcp('127.0.0.1'), 'x'],
    ['NBD://h/vm1/disk0@-15m!x', tcp('h'), 'vm1/disk0@-15m!x'],
    ['nbd://hub/vm1%2Fdisk0@-15m', tcp('hub'), 'vm1/disk0@-15m'],
    ['nbd+unix:///disk?socket=/run/nbd.sock', unix('/run/nbd.sock'), 'disk'],
    ['nbd+unix:///?socket=nbd.sock', unix('nbd.sock'), ''],
    ['nbd+unix:?socket=/a%20b', unix('/a b'), ''],
    ['nbd+unix:///%C3%BC?socket=/s', unix('/s'), 'ü'],
  ])('%s', (text, address, exportName) => {
    expect(parseDeviceUri(text)).toEqual({ kind: 'nbd', tls: false, address, exportName, tlsOptions: new Map() });
  });

  it('nbds carries its TLS parameters', () => {
    expect(parseNbdUri('nbds://h/x?tls-type=x509&tls-hostname=a%2Cb')).toEqual({
      kind: 'nbd',
      tls: true,
      address: tcp('h'),
      exportName: 'x',
      tlsOptions: new Map([
        ['tls-type', 'x509'],
        ['tls-hostname', 'a,b'],
      ]),
    });
    expect(parseNbdUri('nbds+unix:///x?socket=/s').tls).toBe(true);
  });

  it.each([
    ['file:/var/disk.img', '/var/disk.img'],
    ['file:disk 100%.img', 'disk 100%.img'],
    ['file:///var/disk.img', '/var/disk.img'],
  ])('%s is a file', (text, path) => {
    expect(parseDeviceUri(text)).toEqual({ kind: 'file', path });
  });

  it.each([
    ['', 'uri-scheme'],
    ['example.com:10809', 'uri-scheme'],
    ['http://example.com/x', 'uri-scheme'],
    ['nbd+ssh://h/x', 'uri-scheme'],
    ['/var/disk.img', 'uri-scheme'],
    ['nbd:///x', 'uri-host'],
    ['nbd://a b/x', 'uri-host'],
    ['nbd://::1/x', 'uri-host'],
    ['nbd://[::1/x', 'uri-host'],
    ['nbd://h:port/x', 'uri-host'],
    ['nbd://h:0/x', 'uri-port'],
    ['nbd://h:65536/x', 'uri-port'],
    ['nbd://me@h/x', 'uri-userinfo'],
    ['nbd://h/x#y', 'uri-fragment'],
    ['nbd://h/%zz', 'uri-escape'],
    ['nbd://h/%ff', 'uri-escape'],
    ['nbd://h/%00', 'uri-export-name'],
    [`nbd://h/${'x'.repeat(4097)}`, 'uri-export-name'],
    ['nbd://h/x?socket=/s', 'uri-parameter'],
    ['nbd://h/x?tls-type=x509', 'uri-parameter'],
    ['nbd://h/x?what=ever', 'uri-parameter'],
    ['nbd+unix:///x?socket=/s&socket=/t', 'uri-parameter'],
    ['nbd+unix:///x?socket', 'uri-parameter'],
    ['nbd+unix:///x', 'uri-socket'],
    ['nbd+unix:///x?socket=', 'uri-socket'],
    [`nbd+unix:///x?socket=/${'s'.repeat(107)}`, 'uri-socket'],
    ['nbd+unix://host/x?socket=/s', 'uri-authority'],
    ['file:', 'uri-path'],
    ['file://host/x', 'uri-path'],
  ])('%s is refused: %s', (text, code) => {
    expect(() => parseDeviceUri(text)).toThrow(expect.objectContaining({ kind: 'config', code }));
  });

  it('a path alone is told how a file is written, and each side its own forms', () => {
    expect(() => parseDeviceUri('/srv/vm1.raw')).toThrow(/expected file:PATH, .* write file:\/srv\/vm1\.raw$/);
    expect(() => parseDeviceUri('http://h/x')).toThrow(/expected file:PATH, nbd:\/\/.*socket=PATH$/);
    expect(() => parseListenUri('/run/vm1.sock')).toThrow(
      /expected nbd:\/\/HOST:PORT or nbd\+unix:\/\/\/\?socket=PATH$/,
    );
  });

  it('an address to listen on has no export name, may have port 0, and no TLS yet', () => {
    expect(parseListenUri('nbd://127.0.0.1:0')).toEqual(tcp('127.0.0.1', 0));
    expect(parseListenUri('nbd+unix:///?socket=/s')).toEqual(unix('/s'));
    expect(() => parseListenUri('nbd://127.0.0.1/x')).toThrow(expect.objectContaining({ code: 'uri-export-name' }));
    expect(() => parseListenUri('nbds://127.0.0.1')).toThrow(expect.objectContaining({ code: 'tls-not-yet' }));
    expect(() => parseNbdUri('file:/x')).toThrow(expect.objectContaining({ code: 'uri-scheme' }));
  });

  it('what is formatted parses to the same', () => {
    const address = fc.oneof(
      fc.record({
        kind: fc.constant('tcp' as const),
        host: fc.constantFrom('h', '::1', '10.0.0.1'),
        port: fc.integer({ min: 1, max: 65_535 }),
      }),
      fc.record({
        kind: fc.constant('unix' as const),
        path: fc.string({ minLength: 1, maxLength: 30, unit: 'grapheme-ascii' }),
      }),
    );
    fc.assert(
      fc.property(
        address,
        fc.string({ unit: fc.constantFrom(...Array.from('aZ09 /?#%@:!,+=&~ü€')), maxLength: 50 }),
        fc.boolean(),
        (where, name, tls) => {
          const uri = {
            kind: 'nbd' as const,
            tls,
            address: where,
            exportName: name,
            tlsOptions: new Map(tls ? [['tls-type', 'psk']] : []),
          };
          expect(parseDeviceUri(formatDeviceUri(uri))).toEqual(uri);
        },
      ),
    );
    expect(formatDeviceUri({ kind: 'file', path: '/a b' })).toBe('file:/a b');
    expect(exportUri({ kind: 'tcp', host: 'hub', port: 10_809 }, 'vm1/disk0@-15m')).toBe('nbd://hub/vm1%2Fdisk0@-15m');
    expect(exportUri({ kind: 'unix', path: '/run/x.sock' }, '')).toBe('nbd+unix:///?socket=/run/x.sock');
  });
});
