/**
 * Where a hub is reached, or listens: `tcp://host:9010`, `unix:///path`, `tls://…`, `ws://…`, `wss://…`.
 * Every refusal names the URL and what is wrong with it.
 */
import { type Address, ConfigFault, MAX_SOCKET_PATH_BYTES } from '@rephub/platform';

const DEFAULT_HUB_PORT = 9010;

export type HubTransport = 'tcp' | 'unix' | 'tls' | 'ws' | 'wss';

export interface HubUrl {
  readonly transport: HubTransport;
  readonly address: Address;
  /** The HTTP path of ws and wss, `/` by default; null for the others. */
  readonly path: string | null;
  /** As it was written. */
  readonly text: string;
}

const DEFAULT_PORTS = { tcp: DEFAULT_HUB_PORT, tls: DEFAULT_HUB_PORT, ws: 80, wss: 443 };

/** Port 0 (any free one) makes sense only where one listens. Throws a ConfigFault `bad-hub-url`. */
export function parseHubUrl(text: string, purpose: 'connect' | 'listen' = 'connect'): HubUrl {
  const scheme = /^([a-z]+):\/\//.exec(text);
  const transport = scheme?.[1] ?? '';
  if (scheme === null) throw bad(text, 'it has no scheme; write tcp://HOST:PORT or unix:///PATH');
  const rest = text.slice(scheme[0].length);
  if (/[\s?#]/.test(rest)) throw bad(text, 'spaces, ? and # have no place in it');
  switch (transport) {
    case 'unix':
      return { transport, address: { kind: 'unix', path: socketPath(text, rest) }, path: null, text };
    case 'tcp':
    case 'tls':
    case 'ws':
    case 'wss':
      return parseNetwork(text, transport, rest, purpose);
    default:
      throw bad(text, `scheme ${transport} is none of tcp, unix, tls, ws, wss`);
  }
}

/** The address of a URL whose transport is built; throws a ConfigFault `transport-not-yet` for the others. */
export function dialAddress(url: HubUrl): Address {
  if (url.transport === 'tcp' || url.transport === 'unix') return url.address;
  throw new ConfigFault('transport-not-yet', `${url.text}: ${url.transport} is not built yet; use tcp:// or unix://`);
}

function parseNetwork(text: string, transport: keyof typeof DEFAULT_PORTS, rest: string, purpose: string): HubUrl {
  const slash = rest.indexOf('/');
  const authority = slash < 0 ? rest : rest.slice(0, slash);
  const path = slash < 0 ? '/' : rest.slice(slash);
  const web = transport === 'ws' || transport === 'wss';
  if (!web && path !== '/') throw bad(text, `a path (${path}) has no place after HOST:PORT`);
  if (authority.includes('@')) throw bad(text, 'a user name or password has no place in it');
  const parts = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]*))(?::([^:]*))?$/.exec(authority);
  if (parts === null) throw bad(text, `"${authority}" is not HOST:PORT; an IPv6 address needs [ ]`);
  const host = parts[1] ?? parts[2] ?? '';
  if (host === '') throw bad(text, 'the host is missing');
  if (parts[1] !== undefined && !host.includes(':')) throw bad(text, `"${host}" in [ ] is not an IPv6 address`);
  if (parts[1] === undefined && !/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?$/.test(host)) {
    throw bad(text, `"${host}" is not a host name or an address`);
  }
  const port = parts[3] === undefined ? DEFAULT_PORTS[transport] : portOf(text, parts[3]);
  if (port === 0 && purpose === 'connect') throw bad(text, 'port 0 is only for listening');
  return { transport, address: { kind: 'tcp', host, port }, path: web ? path : null, text };
}

function portOf(text: string, digits: string): number {
  const port = /^[0-9]{1,5}$/.test(digits) ? Number(digits) : Number.NaN;
  if (!(port <= 65_535)) throw bad(text, `port "${digits}" is not a number from 1 to 65535`);
  return port;
}

function socketPath(text: string, rest: string): string {
  if (!rest.startsWith('/')) throw bad(text, 'the path must be absolute: unix:///PATH');
  let path: string;
  try {
    path = decodeURIComponent(rest);
  } catch {
    throw bad(text, 'a % is not followed by two hexadecimal digits of UTF-8');
  }
  if (path.endsWith('/') || path.includes('\0')) throw bad(text, 'the path does not name a socket');
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    throw bad(text, `the socket path has ${bytes} bytes, at most ${MAX_SOCKET_PATH_BYTES} are possible`);
  }
  return path;
}

function bad(text: string, what: string): ConfigFault {
  return new ConfigFault('bad-hub-url', `hub URL ${JSON.stringify(text)}: ${what}`);
}
