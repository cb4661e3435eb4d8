// The bad network does what it is told, byte by byte.
import { createServer, connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { freePort } from './addresses.js';
import { CuttingProxy } from './cutting-proxy.js';
import { type Scope } from './scope.js';
import { testScope } from './test-scope.js';
import { waitUntil, within } from './wait.js';

/** A server that sends back what it gets, and counts it. */
async function echo(scope: Scope): Promise<{ port: number; received: () => number }> {
  let received = 0;
  const sockets = new Set<Socket>();
  const port = await freePort();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('data', (piece) => {
      received += piece.length;
      socket.write(piece);
    });
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  scope.defer('echo', async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port, received: () => received };
}

/** A client that keeps what came and when it was closed. */
async function client(
  scope: Scope,
  port: number,
): Promise<{ socket: Socket; got: () => number; closed: Promise<void>; isClosed: () => boolean }> {
  let got = 0;
  let isClosed = false;
  const socket = connect(port, '127.0.0.1');
  socket.on('data', (piece) => (got += piece.length));
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => {
    socket.on('close', () => {
      isClosed = true;
      resolve();
    });
  });
  scope.defer('client', async () => {
    socket.destroy();
    await Promise.resolve();
  });
  await new Promise<void>((resolve) => void socket.once('connect', resolve).once('close', resolve));
  return { socket, got: () => got, closed, isClosed: () => isClosed };
}

test('passes bytes both ways, and again after a cut', async () => {
  const scope = testScope();
  const server = await echo(scope);
  const proxy = await CuttingProxy.start(scope, { port: server.port });
  const first = await client(scope, proxy.port);
  first.socket.write(Buffer.alloc(200_000));
  await waitUntil('all to come back', () => first.got() === 200_000);
  proxy.cut();
  await within('the cut', 5000, first.closed);
  expect(proxy.openConnections).toBe(0);
  const second = await client(scope, proxy.port);
  second.socket.write('again');
  await waitUntil('five bytes', () => second.got() === 5);
  expect(proxy.passedBytes).toEqual({ up: 200_005, down: 200_005 });
});

test('refuses until told to pass', async () => {
  const scope = testScope();
  const proxy = await CuttingProxy.start(scope, { port: (await echo(scope)).port });
  proxy.refuse();
  await within('the refusal', 5000, (await client(scope, proxy.port)).closed);
  proxy.pass();
  const served = await client(scope, proxy.port);
  served.socket.write('x');
  await waitUntil('an answer', () => served.got() === 1);
});

test('half-open: nothing passes, nothing is said, even when the other side goes', async () => {
  const scope = testScope();
  const server = await echo(scope);
  const proxy = await CuttingProxy.start(scope, { port: server.port });
  const half = await client(scope, proxy.port);
  half.socket.write('ab');
  await waitUntil('an answer', () => half.got() === 2);
  proxy.swallow();
  half.socket.write('lost');
  const other = await client(scope, proxy.port);
  other.socket.write('lost too');
  other.socket.end();
  await waitUntil('the proxy to hold both', () => proxy.openConnections === 2);
  expect([server.received(), half.got(), half.isClosed()]).toEqual([2, 2, false]);
  proxy.pass();
  await within('the end of the half-open connection', 5000, half.closed);
});

test('one way only: requests arrive, answers do not', async () => {
  const scope = testScope();
  const server = await echo(scope);
  const proxy = await CuttingProxy.start(scope, { port: server.port });
  proxy.swallow('down');
  const half = await client(scope, proxy.port);
  half.socket.write('heard');
  await waitUntil('the request to arrive', () => server.received() === 5);
  expect(half.got()).toBe(0);
});

test.for([1, 7, 65_536, 99_999])('cuts exactly after %i bytes', async (bytes) => {
  const scope = testScope();
  const server = await echo(scope);
  const proxy = await CuttingProxy.start(scope, { port: server.port });
  proxy.cutAfter(bytes, 'up');
  const cut = await client(scope, proxy.port);
  cut.socket.write(Buffer.alloc(100_000));
  await within('the cut', 5000, cut.closed);
  expect(proxy.passedBytes.up).toBe(bytes);
});
