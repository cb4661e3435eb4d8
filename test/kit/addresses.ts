/** NBD URIs and free ports for tests: one place that knows how sockets and exports are written. */
import { randomInt } from 'node:crypto';
import { connect, createServer } from 'node:net';

/** A socket's path, or a port of loopback. */
export type Address = { readonly socket: string } | { readonly port: number };

/** nbd+unix:///EXPORT?socket=PATH */
export function unixUri(socket: string, exportName = ''): string {
  return `nbd+unix:///${encodeURIComponent(exportName)}?socket=${socket}`;
}

/** nbd://127.0.0.1:PORT/EXPORT */
export function tcpUri(port: number, exportName = ''): string {
  return `nbd://127.0.0.1:${port}/${encodeURIComponent(exportName)}`;
}

/**
 * Where ports are looked for: below those that the kernel gives to connections that go out (from 32768 on), one of which
 * could take a port between the look and the listener.
 */
const PORTS = { from: 20_000, count: 12_000 };
const given = new Set<number>();

/** A TCP port of loopback that nobody listens on and that this process was not given before. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS.from + randomInt(PORTS.count);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(false);
    });
    server.listen(port, '127.0.0.1', () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/** Whether somebody accepts connections there. */
export async function listens(address: Address): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = 'socket' in address ? connect(address.socket) : connect(address.port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
