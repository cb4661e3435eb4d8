/** The HTTP listener of the hub: node:http around the app. Bounded in time and size whatever the client does. */
import { createServer, type Server } from 'node:http';
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { type Address, LinkFault, formatAddress, plainReason } from '@rephub/platform';
import { listenFault } from '@rephub/platform/node';
import type { Hono } from 'hono';

export interface HttpServer {
  /** The port filled in when 0 was asked for. */
  readonly address: Address;
  /** No new connections; answers under way get a moment. */
  close(): Promise<void>;
}

const CLOSE_GRACE_MS = 500;

/** Throws a LinkFault `address-in-use` or `address-not-allowed`. */
export async function serveHttp(app: Hono, address: Address): Promise<HttpServer> {
  const answer = getRequestListener(app.fetch);
  const server = createServer((request, response) => void answer(request, response));
  server.maxConnections = 256;
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  if (address.kind === 'unix') await removeStaleSocket(address.path);
  await listening(server, address);
  // What a client does wrong ends its own connection.
  server.on('error', () => undefined);
  const bound = server.address();
  return {
    address:
      address.kind === 'tcp' && typeof bound === 'object' && bound !== null
        ? { ...address, port: bound.port }
        : address,
    close: async () => {
      await new Promise<void>((resolve) => {
        const limit = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
        server.close(() => {
          clearTimeout(limit);
          resolve();
        });
        server.closeIdleConnections();
      });
    },
  };
}

async function listening(server: Server, address: Address): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => {
      reject(listenFault(formatAddress(address), cause, '--http'));
    };
    server.once('error', failed);
    server.once('listening', () => {
      server.off('error', failed);
      resolve();
    });
    if (address.kind === 'unix') server.listen(address.path);
    else server.listen(address.port, address.host);
  });
}

/** What a killed hub left behind: removed only when it is a socket and nobody answers on it. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) throw notAllowed(`${path} is there and is no socket`);
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (alive) throw new LinkFault('address-in-use', `--http: somebody listens on ${path} already`);
  await unlink(path).catch((cause: unknown) => {
    throw notAllowed(`cannot remove the old socket ${path}: ${plainReason(cause)}`, cause);
  });
}

function notAllowed(why: string, cause?: unknown): LinkFault {
  return new LinkFault('address-not-allowed', `--http: ${why}`, { retryable: false, cause });
}
