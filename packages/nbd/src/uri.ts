/**
 * Addresses of block devices: the NBD project's URIs (doc/uri.md), on the connecting and the listening
 * side, and our `file:PATH`. Pure. What is wrong with a text is said with the text.
 */
import { type Address, ConfigFault, MAX_SOCKET_PATH_BYTES } from '@rephub/platform';
import { DEFAULT_PORT, MAX_STRING_BYTES } from './wire/constants.js';

/** An address of a block device: an NBD URI, or our `file:PATH`. */
export type DeviceUri = NbdUri | FileUri;

export interface NbdUri {
  readonly kind: 'nbd';
  readonly tls: boolean;
  readonly address: Address;
  /** Decoded; empty for the default export. */
  readonly exportName: string;
  /** Query parameters `tls-…`, decoded. */
  readonly tlsOptions: ReadonlyMap<string, string>;
}

export interface FileUri {
  readonly kind: 'file';
  /** As written after `file:`; nothing in it is decoded. */
  readonly path: string;
}

const SCHEMES: Readonly<Record<string, { readonly tls: boolean; readonly unix: boolean }>> = {
  nbd: { tls: false, unix: false },
  nbds: { tls: true, unix: false },
  'nbd+unix': { tls: false, unix: true },
  'nbds+unix': { tls: true, unix: true },
};

const CONNECT_FORMS = 'nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH';
const LISTEN_FORMS = 'nbd://HOST:PORT or nbd+unix:///?socket=PATH';

/** `scheme:` `//authority`? `path` `?query`? `#fragment`?, as RFC 3986 cuts it. */
const PARTS = /^([A-Za-z][A-Za-z0-9+.-]*):(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(#.*)?$/s;

/** Throws a ConfigFault (`uri-…`) that names what is wrong. */
export function parseDeviceUri(text: string): DeviceUri {
  if (!/^file:/i.test(text)) return parseNbd(text, 1, deviceForms(text));
  const path = text.slice('file:'.length).replace(/^\/\/(?=\/)/, '');
  if (path === '' || path.startsWith('//')) throw wrong('path', text, 'expected file:PATH');
  if (path.includes('\0')) throw wrong('path', text, 'the path has a NUL in it');
  return { kind: 'file', path };
}

/** As parseDeviceUri, but `file:` is refused (`uri-scheme`). */
export function parseNbdUri(text: string): NbdUri {
  return parseNbd(text, 1, CONNECT_FORMS);
}

/** Where to listen: an NBD URI without export name; port 0 is any free one. Throws a ConfigFault (`uri-…`, `tls-not-yet`). */
export function parseListenUri(text: string): Address {
  const { address, exportName, tls } = parseNbd(text, 0, LISTEN_FORMS);
  if (exportName !== '') throw wrong('export-name', text, 'an address to listen on has no export name');
  if (tls) throw new ConfigFault('tls-not-yet', `'${text}': TLS is not built yet`);
  return address;
}

/** The shortest text that means the same. */
export function formatDeviceUri(uri: DeviceUri): string {
  if (uri.kind === 'file') return `file:${uri.path}`;
  const { address, exportName } = uri;
  const query = [...uri.tlsOptions].map(([name, value]) => `${encode(name)}=${encode(value)}`);
  const scheme = uri.tls ? 'nbds' : 'nbd';
  if (address.kind === 'unix') {
    query.unshift(`socket=${encode(address.path).replaceAll('%2F', '/')}`);
    return `${scheme}+unix:///${encode(exportName)}?${query.join('&')}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  const port = address.port === DEFAULT_PORT ? '' : `:${address.port}`;
  const tail = query.length === 0 ? '' : `?${query.join('&')}`;
  return `${scheme}://${host}${port}/${encode(exportName)}${tail}`;
}

/** The URI of an export at an address, for people and other programs. */
export function exportUri(address: Address, exportName: string): string {
  return formatDeviceUri({ kind: 'nbd', tls: false, address, exportName, tlsOptions: new Map() });
}

function parseNbd(text: string, lowestPort: number, forms: string): NbdUri {
  const [, scheme = '', authority = '', path = '', query, fragment] = PARTS.exec(text) ?? [];
  const form = SCHEMES[scheme.toLowerCase()];
  if (form === undefined) throw wrong('scheme', text, `expected ${forms}`);
  if (fragment !== undefined)
    throw wrong('fragment', text, "'#' begins a fragment, which means nothing here; write %23");
  const exportName = decode(path.replace(/^\//, ''), text);
  if (exportName.includes('\0') || Buffer.byteLength(exportName) > MAX_STRING_BYTES) {
    throw wrong('export-name', text, `an export name has no NUL and at most ${MAX_STRING_BYTES} bytes`);
  }
  const parameters = parseQuery(query, text);
  const socket = parameters.get('socket');
  parameters.delete('socket');
  for (const name of parameters.keys()) {
    if (!form.tls || !name.startsWith('tls-')) throw wrong('parameter', text, `parameter '${name}' means nothing here`);
  }
  const address = form.unix ? unixAddress(authority, socket, text) : tcpAddress(authority, socket, lowestPort, text);
  return { kind: 'nbd', tls: form.tls, address, exportName, tlsOptions: parameters };
}

/** What a device may be, and what was meant where a path alone was given. */
function deviceForms(text: string): string {
  const forms = `file:PATH, ${CONNECT_FORMS}`;
  return text !== '' && !text.includes(':') ? `${forms}; for the file or block device write file:${text}` : forms;
}

function unixAddress(authority: string, socket: string | undefined, text: string): Address {
  if (authority !== '') {
    throw wrong('authority', text, `'${authority}' is a host; a Unix socket has none: write three slashes`);
  }
  if (socket === undefined || socket === '') throw wrong('socket', text, 'the parameter socket=PATH is missing');
  if (socket.includes('\0') || Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES) {
    throw wrong('socket', text, `the path of a socket has no NUL and at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  }
  return { kind: 'unix', path: socket };
}

function tcpAddress(authority: string, socket: string | undefined, lowestPort: number, text: string): Address {
  if (socket !== undefined) throw wrong('parameter', text, "parameter 'socket' is for nbd+unix");
  if (authority.includes('@')) throw wrong('userinfo', text, 'a user name means nothing here');
  const [, inBrackets, plain, port] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]*))(?::(\d*))?$/.exec(authority) ?? [];
  const host = inBrackets ?? decode(plain ?? '', text);
  if (host === '' || /[\s\0]/.test(host)) throw wrong('host', text, 'expected HOST, HOST:PORT or [IPv6]:PORT');
  const number = port === undefined || port === '' ? DEFAULT_PORT : Number(port);
  if (number < lowestPort || number > 65_535) throw wrong('port', text, `a port is ${lowestPort} to 65535`);
  return { kind: 'tcp', host, port: number };
}

function parseQuery(query: string | undefined, text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  if (query === undefined || query === '') return parameters;
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals <= 0) throw wrong('parameter', text, `'${pair}' is not NAME=VALUE`);
    const name = decode(pair.slice(0, equals), text);
    if (parameters.has(name)) throw wrong('parameter', text, `parameter '${name}' is there twice`);
    parameters.set(name, decode(pair.slice(equals + 1), text));
  }
  return parameters;
}

function decode(part: string, text: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw wrong('escape', text, `'${part}' has a '%' that is not followed by the hex digits of UTF-8`);
  }
}

/** What a path and a query may hold in plain stays plain, but for the slash, which some readers take for a path. */
function encode(part: string): string {
  return encodeURIComponent(part).replaceAll('%40', '@').replaceAll('%3A', ':').replaceAll('%2C', ',');
}

function wrong(code: string, text: string, why: string): ConfigFault {
  return new ConfigFault(`uri-${code}`, `'${text}': ${why}`);
}
