/**
 * TCP and Unix sockets: connecting, listening, adopting a socket that systemd opened.
 *
 * Always holds: a connection reads nothing before it is started, allows half-open, and reads into
 * ReceiveBuffers where Node lets us choose the memory (otherwise into Node's own, 64 KiB at a time).
 * Must not know: what is spoken over the connections.
 */
import { lstat, stat, unlink } from 'node:fs/promises';
import { connect as netConnect, createServer, type Server, Socket } from 'node:net';
import { LinkFault } from '../errors.js';
import {
  type Address,
  type Connection,
  type ConnectOptions,
  formatAddress,
  type Listener,
  type Network,
} from '../network.js';
import type { BusyPoll } from './busy-poll.js';
import { NodeConnection } from './connection.js';
import { errnoName } from './file-faults.js';
import { connectFault, listenFault } from './network-faults.js';
import { ReceiveBuffers } from './receive-buffers.js';

/** After this long without traffic the kernel asks whether a TCP peer still lives. */
const KEEP_ALIVE_MS = 30_000;
const STALE_PROBE_MS = 2_000;

export interface NodeNetworkOptions {
  /** False: accepted connections read into memory that Node chooses, as where this Node has no way to choose it. */
  readonly ownMemory?: boolean;
  /** Is told of all that comes in. */
  readonly busyPoll?: BusyPoll;
}

/** The sockets of this machine. */
export function nodeNetwork(options: NodeNetworkOptions = {}): Network {
  return {
    connect: (address, how) => connect(address, how, options),
    listen: (address, accept) => listen(address, accept, options),
  };
}

/** Listens on a socket that is open and bound already (systemd's LISTEN_FDS). Throws as `listen` does. */
export function adoptListener(
  fd: number,
  accept: (connection: Connection) => void,
  options: NodeNetworkOptions = {},
): Promise<Listener> {
  return listenOn({ fd }, `descriptor ${fd}`, accept, options);
}

/** Where a socket's incoming chunks go; set once there is a connection. */
interface Intake {
  readonly onread: { buffer: () => Uint8Array; callback: (countBytes: number, part: Uint8Array) => boolean };
  target: NodeConnection | null;
  buffers: ReceiveBuffers;
}

function makeIntake(): Intake {
  const buffers = new ReceiveBuffers();
  const intake: Intake = {
    target: null,
    buffers,
    onread: {
      buffer: () => buffers.next(),
      callback: (countBytes, part) => {
        const chunk = part as Buffer;
        buffers.took(chunk, countBytes);
        intake.target?.arrived(countBytes === chunk.length ? chunk : chunk.subarray(0, countBytes));
        return true;
      },
    },
  };
  return intake;
}

function bind(socket: Socket, peer: string, intake: Intake | null, options: NodeNetworkOptions): NodeConnection {
  const connection = new NodeConnection(socket, peer, intake?.buffers, options.busyPoll);
  if (intake === null) socket.on('data', (chunk) => connection.arrived(chunk));
  else {
    intake.target = connection;
    socket.on('close', () => intake.buffers.release());
  }
  return connection;
}

function connect(address: Address, how: ConnectOptions, options: NodeNetworkOptions = {}): Promise<Connection> {
  const name = formatAddress(address);
  return new Promise((resolve, reject) => {
    const { signal } = how;
    if (signal?.aborted === true) {
      reject(aborted(name));
      return;
    }
    const intake = makeIntake();
    const common = { onread: intake.onread, allowHalfOpen: true, noDelay: true };
    const socket =
      address.kind === 'unix'
        ? netConnect({ ...common, path: address.path })
        : netConnect({
            ...common,
            host: address.host,
            port: address.port,
            keepAlive: true,
            keepAliveInitialDelay: KEEP_ALIVE_MS,
          });
    socket.pause();

    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.off('connect', onConnect);
      socket.off('error', onError);
    };
    const give = (fault: Error): void => {
      settle();
      // Late errors of a socket nobody wants any more.
      socket.on('error', () => undefined);
      socket.destroy();
      intake.buffers.release();
      reject(fault);
    };
    const onAbort = (): void => give(aborted(name));
    const onError = (error: Error): void => give(connectFault(name, error));
    const onConnect = (): void => {
      settle();
      resolve(bind(socket, name, intake, options));
    };
    const timer = setTimeout(() => {
      give(new LinkFault('connect-timeout', `cannot connect to ${name}: no answer within ${how.timeoutMs} ms`));
    }, how.timeoutMs);
    signal?.addEventListener('abort', onAbort, { once: true });
    socket.once('connect', onConnect);
    socket.once('error', onError);
  });
}

function aborted(name: string): LinkFault {
  return new LinkFault('connect-aborted', `connecting to ${name} was given up`, { retryable: false });
}

async function listen(
  address: Address,
  accept: (connection: Connection) => void,
  options: NodeNetworkOptions,
): Promise<Listener> {
  const name = formatAddress(address);
  if (address.kind === 'tcp') return await listenOn({ host: address.host, port: address.port }, name, accept, options);
  try {
    return await listenOn({ path: address.path }, name, accept, options);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (errnoName(cause) !== 'EADDRINUSE') throw error;
    await refuseOtherFile(address.path);
    if (!(await isStaleSocket(address.path))) throw error;
  }
  await unlink(address.path).catch((error: unknown) => {
    if (errnoName(error) !== 'ENOENT') throw listenFault(name, error);
  });
  return await listenOn({ path: address.path }, name, accept, options);
}

/** What is there and is no socket goes away by nobody's end: no other try helps. */
async function refuseOtherFile(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found === null || found.isSocket()) return;
  const kind = found.isDirectory() ? 'directory' : 'file';
  throw new LinkFault('address-not-allowed', `cannot listen on ${path}: it is a ${kind} and no socket`, {
    retryable: false,
  });
}

/** A socket's name left behind by a process that is gone: nobody answers. Any other file is not ours to remove. */
async function isStaleSocket(path: string): Promise<boolean> {
  try {
    if (!(await lstat(path)).isSocket()) return false;
    const connection = await connect({ kind: 'unix', path }, { timeoutMs: STALE_PROBE_MS });
    connection.destroy();
    return false;
  } catch (error) {
    return error instanceof LinkFault && error.code === 'connect-refused';
  }
}

type Where = { fd: number } | { host: string; port: number } | { path: string };

function listenOn(
  where: Where,
  name: string,
  accept: (connection: Connection) => void,
  options: NodeNetworkOptions,
): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (socket) => {
      accept(accepted(socket, name, options));
    });
    const onError = (error: Error): void => reject(listenFault(name, error));
    server.once('error', onError);
    server.listen(where, () => {
      server.off('error', onError);
      // Accepting may fail for want of descriptors; those who connected are tried again by the kernel's queue.
      server.on('error', () => undefined);
      resolve(listenerOf(server, where, name));
    });
  });
}

function listenerOf(server: Server, where: Where, name: string): Listener {
  const bound = server.address();
  const address: Address =
    typeof bound === 'string'
      ? { kind: 'unix', path: bound }
      : bound === null
        ? { kind: 'unix', path: name }
        : { kind: 'tcp', host: 'host' in where ? where.host : bound.address, port: bound.port };
  let closing = false;
  return {
    address,
    close: () => {
      if (!closing) {
        closing = true;
        // Node removes a Unix socket's name itself. Its own callback would wait for the open connections.
        server.close();
      }
      return Promise.resolve();
    },
  };
}

/** Node's socket with the parts that its types leave out. */
interface SocketWithHandle {
  _handle?: object | null;
}

function accepted(socket: Socket, listenerName: string, options: NodeNetworkOptions): Connection {
  const { remoteAddress: host, remotePort: port } = socket;
  const isTcp = host !== undefined && port !== undefined;
  const peer = isTcp ? formatAddress({ kind: 'tcp', host, port }) : `${listenerName} (client)`;
  if (isTcp) socket.setKeepAlive(true, KEEP_ALIVE_MS);
  const own = options.ownMemory === false ? null : rewrapped(socket, peer, options);
  return own ?? bind(socket, peer, null, options);
}

/**
 * An accepted socket reads into memory that Node chooses, 64 KiB at a time; only a socket made with `onread`
 * reads into ours. So the handle moves to a new socket. Null where this Node does not have it that way.
 */
function rewrapped(socket: Socket, peer: string, network: NodeNetworkOptions): NodeConnection | null {
  const old = socket as SocketWithHandle;
  const handle = old._handle;
  if (handle === null || typeof handle !== 'object' || !('useUserBuffer' in handle)) return null;
  const intake = makeIntake();
  const options = { handle, onread: intake.onread, allowHalfOpen: true, pauseOnCreate: true };
  const renewed = new Socket(options);
  if ((renewed as SocketWithHandle)._handle !== handle) return null;
  old._handle = null;
  // Only its bookkeeping is left of the old socket; the server counts it out.
  socket.destroy();
  return bind(renewed, peer, intake, network);
}
