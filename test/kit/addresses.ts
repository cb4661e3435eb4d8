/** NBD URIs and free ports for tests: one place that knows how sockets and exports are written. */
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

/** A TCP port of loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port);
        else reject(new Error('no port'));
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
