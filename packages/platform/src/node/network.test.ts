import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect as rawConnect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync, spawn } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Address, Connection, Listener, Receiver } from '../network.js';
import { nodeNetwork } from './network.js';

const network = nodeNetwork();
let directory: string;
const listeners: Listener[] = [];
const connections: Connection[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rephub-net-'));
});
afterEach(async () => {
  for (const connection of connections.splice(0)) connection.destroy();
  for (const listener of listeners.splice(0)) await listener.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Records what happens and lets a test wait for it. */
class Recorder implements Receiver {
  readonly chunks: Buffer[] = [];
  readonly events: string[] = [];
  closedWith: Error | null = null;
  bytes = 0;
  onChunk: ((chunk: Buffer) => void) | null = null;
  #waiting: { reached: () => boolean; resolve: () => void }[] = [];

  received(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
    this.onChunk?.(chunk);
    this.#check();
  }
  drained(): void {
    this.#note('drained');
  }
  ended(): void {
    this.#note('ended');
  }
  closed(error: Error | null): void {
    this.closedWith = error;
    this.#note('closed');
  }
  async until(reached: () => boolean): Promise<void> {
    if (reached()) return;
    await new Promise<void>((resolve) => this.#waiting.push({ reached, resolve }));
  }
  async event(name: string): Promise<void> {
    await this.until(() => this.events.includes(name));
  }
  #note(name: string): void {
    this.events.push(name);
    this.#check();
  }
  #check(): void {
    this.#waiting = this.#waiting.filter(({ reached, resolve }) => {
      if (!reached()) return true;
      resolve();
      return false;
    });
  }
}

interface Accepting {
  readonly address: Address;
  next(): Promise<Connection>;
}

async function listening(address: Address, on = network): Promise<Accepting> {
  const arrived: Connection[] = [];
  const waiting: ((connection: Connection) => void)[] = [];
  const listener = await on.listen(address, (connection) => {
    connections.push(connection);
    const resolve = waiting.shift();
    if (resolve === undefined) arrived.push(connection);
    else resolve(connection);
  });
  listeners.push(listener);
  return {
    address: listener.address,
    next: async () => arrived.shift() ?? (await new Promise((resolve) => waiting.push(resolve))),
  };
}

async function pair(address: Address, on = network): Promise<{ client: Connection; server: Connection }> {
  const accepting = await listening(address, on);
  const client = await network.connect(accepting.address, { timeoutMs: 2000 });
  connections.push(client);
  return { client, server: await accepting.next() };
}

const tcp = (): Address => ({ kind: 'tcp', host: '127.0.0.1', port: 0 });
const unix = (): Address => ({ kind: 'unix', path: join(directory, 's.sock') });
const withoutOwnMemory = nodeNetwork({ ownMemory: false });
const kinds: [string, () => Address, typeof network][] = [
  ['tcp', tcp, network],
  ['unix', unix, network],
  ['unix, into memory that Node chooses', unix, withoutOwnMemory],
];

/** Bytes that show where they belong. */
function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(at, at);
  return bytes;
}

describe.each(kinds)('a connection over %s', (_name, address, on) => {
  it('keeps the order of small and large chunks, and copies small ones at once', async () => {
    const { client, server } = await pair(address(), on);
    const receiver = new Recorder();
    server.start(receiver);
    const all = pattern(3_000_000);
    const small = Buffer.alloc(511);
    let at = 0;
    for (let round = 0; at < all.length; round += 1) {
      const length = Math.min(
        round % 5 === 4 ? 100_000 : round % 3 === 2 ? 9000 : 1 + ((round * 37) % 511),
        all.length - at,
      );
      if (length <= small.length) {
        small.set(all.subarray(at, at + length));
        client.send(small.subarray(0, length));
        small.fill(0xee);
      } else client.send(all.subarray(at, at + length));
      at += length;
    }
    await receiver.until(() => receiver.bytes === all.length);
    expect(Buffer.concat(receiver.chunks).equals(all)).toBe(true);
  });

  it('never writes again to a chunk it has handed over, in either direction', async () => {
    const { client, server } = await pair(address(), on);
    const atServer = new Recorder();
    const atClient = new Recorder();
    atServer.onChunk = (chunk) => server.send(chunk);
    server.start(atServer);
    client.start(atClient);
    const copies: Buffer[] = [];
    atClient.onChunk = (chunk) => copies.push(Buffer.from(chunk));
    const all = pattern(6_000_000);
    for (let at = 0; at < all.length; at += 70_000) client.send(all.subarray(at, at + 70_000));
    await atClient.until(() => atClient.bytes === all.length);
    expect(Buffer.concat(atServer.chunks).equals(all)).toBe(true);
    expect(Buffer.concat(atClient.chunks).equals(Buffer.concat(copies))).toBe(true);
    // Far fewer reads than 64 KiB pieces: the memory to read into has grown.
    if (on === network) expect(Math.max(...atServer.chunks.map((chunk) => chunk.length))).toBeGreaterThan(65_536);
  });

  it('is congested while the peer does not read, and drained once when it does', async () => {
    const { client, server } = await pair(address(), on);
    const atServer = new Recorder();
    const atClient = new Recorder();
    client.start(atClient);
    server.start(atServer);
    server.pause();
    let sent = 0;
    const chunk = Buffer.alloc(60_000, 1);
    while (!client.congested || sent < 16 << 20) {
      client.send(chunk);
      sent += chunk.length;
    }
    expect(client.queuedBytes).toBeGreaterThan(1 << 20);
    server.resume();
    await atClient.event('drained');
    expect(client.congested).toBe(false);
    expect(client.queuedBytes).toBeLessThan(256 * 1024);
    await atServer.until(() => atServer.bytes === sent);
    expect(atClient.events).toEqual(['drained']);
    expect(client.queuedBytes).toBeLessThan(256 * 1024);
  });

  it('stays open for our side when the peer has ended', async () => {
    const { client, server } = await pair(address(), on);
    const atServer = new Recorder();
    const atClient = new Recorder();
    server.start(atServer);
    client.start(atClient);
    client.send(Buffer.from('question'));
    client.end();
    client.send(Buffer.from('dropped'));
    await atServer.event('ended');
    server.send(Buffer.alloc(3_000_000, 1));
    server.end();
    await atClient.event('closed');
    await atServer.event('closed');
    expect(Buffer.concat(atServer.chunks).toString()).toBe('question');
    expect(atClient.bytes).toBe(3_000_000);
    expect(atServer.events.filter((event) => event !== 'drained')).toEqual(['ended', 'closed']);
    expect(atClient.events).toEqual(['ended', 'closed']);
    expect([atServer.closedWith, atClient.closedWith]).toEqual([null, null]);
  });

  it('closes once after destroy, and delivers nothing in between', async () => {
    const { client, server } = await pair(address(), on);
    const atServer = new Recorder();
    const atClient = new Recorder();
    client.start(atClient);
    atServer.onChunk = () => {
      server.destroy();
      server.destroy();
      server.send(Buffer.from('dropped'));
      server.end();
    };
    server.start(atServer);
    client.send(Buffer.alloc(4_000_000));
    await atServer.event('closed');
    expect([atServer.chunks.length, atServer.events]).toEqual([1, ['closed']]);
    await atClient.until(() => atClient.events.length > 0);
    client.send(Buffer.from('nobody there'));
    client.destroy();
    await atClient.event('closed');
  });

  it('reads nothing before start, nor while paused, and can be handed to another receiver', async () => {
    const { client, server } = await pair(address(), on);
    server.pause();
    const first = new Recorder();
    const second = new Recorder();
    server.start(first);
    client.send(Buffer.from('one'));
    // Proof that it has arrived: another connection's round trip came after it.
    const probe = await pair({ kind: 'unix', path: join(directory, 'probe') });
    const atProbe = new Recorder();
    probe.server.start(atProbe);
    probe.client.send(Buffer.from('x'));
    await atProbe.until(() => atProbe.bytes === 1);
    expect(first.chunks).toEqual([]);
    server.resume();
    await first.until(() => first.bytes === 3);
    server.start(second);
    client.send(Buffer.from('two'));
    await second.until(() => second.bytes === 3);
    expect(first.bytes).toBe(3);
  });

  it('tells who starts it late that it is gone', async () => {
    const { client, server } = await pair(address(), on);
    server.destroy();
    const atServer = new Recorder();
    server.start(atServer);
    await atServer.event('closed');
    const late = new Recorder();
    server.start(late);
    client.start(new Recorder());
    expect(late.events).toEqual([]);
  });
});

describe('nodeNetwork', () => {
  it('reports a reset by the peer as a link fault', async () => {
    const accepting = await listening({ kind: 'tcp', host: '127.0.0.1', port: 0 });
    if (accepting.address.kind !== 'tcp') throw new Error('not TCP');
    const raw: Socket = rawConnect(accepting.address.port, '127.0.0.1');
    await once(raw, 'connect');
    const server = await accepting.next();
    const receiver = new Recorder();
    server.start(receiver);
    raw.resetAndDestroy();
    await receiver.event('closed');
    expect(receiver.closedWith).toMatchObject({ kind: 'link', code: 'connection-reset', retryable: true });
    expect(receiver.events).toEqual(['closed']);
  });

  it('says that the directory of a socket may be missing, which Node calls no permission', async () => {
    const nowhere: Address = { kind: 'unix', path: join(directory, 'missing/x.sock') };
    await expect(network.listen(nowhere, () => undefined)).rejects.toThrow(/its directory is not there \(EACCES\)$/);
  });

  it('says why it cannot connect', async () => {
    const missing: Address = { kind: 'unix', path: join(directory, 'missing') };
    await expect(network.connect(missing, { timeoutMs: 1000 })).rejects.toMatchObject({
      kind: 'link',
      code: 'connect-refused',
    });
    const closed = await network.listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => undefined);
    await closed.close();
    await expect(network.connect(closed.address, { timeoutMs: 1000 })).rejects.toMatchObject({
      code: 'connect-refused',
    });
    const controller = new AbortController();
    controller.abort();
    const options = { timeoutMs: 1000, signal: controller.signal };
    await expect(network.connect(missing, options)).rejects.toMatchObject({
      code: 'connect-aborted',
      retryable: false,
    });
  });

  it('gives up connecting after the time limit, and when told to', async () => {
    // A listener whose queue is full answers no more.
    const script =
      'import socket,sys,time\ns=socket.socket(socket.AF_INET);s.bind(("127.0.0.1",0));s.listen(0)\n' +
      'c=[socket.socket(socket.AF_INET) for _ in range(4)]\n' +
      'for k in c:\n k.setblocking(False)\n k.connect_ex(s.getsockname())\n' +
      'print(s.getsockname()[1],flush=True)\nsys.stdin.read()';
    const child = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const busy: Address = { kind: 'tcp', host: '127.0.0.1', port: Number(line.toString()) };
    await expect(network.connect(busy, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'connect-timeout',
      retryable: true,
    });
    const controller = new AbortController();
    const aborted = network.connect(busy, { timeoutMs: 60_000, signal: controller.signal });
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'connect-aborted' });
    child.stdin.end();
    await once(child, 'exit');
  });

  it('refuses an address in use and one that is not ours', async () => {
    const { address } = await listening({ kind: 'tcp', host: '127.0.0.1', port: 0 });
    await expect(network.listen(address, () => undefined)).rejects.toMatchObject({
      kind: 'link',
      code: 'address-in-use',
    });
    const foreign: Address = { kind: 'tcp', host: '192.0.2.1', port: 0 };
    await expect(network.listen(foreign, () => undefined)).rejects.toMatchObject({
      kind: 'link',
      code: 'address-not-allowed',
    });
    const noDirectory: Address = { kind: 'unix', path: join(directory, 'no/such/place') };
    await expect(network.listen(noDirectory, () => undefined)).rejects.toMatchObject({ code: 'address-not-allowed' });
  });

  it('replaces a stale socket, leaves a live one and other files alone, and removes its own name', async () => {
    const path = join(directory, 's');
    execFileSync('python3', ['-c', 'import socket,sys\nsocket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]);
    const listener = await network.listen({ kind: 'unix', path }, () => undefined);
    await expect(network.listen({ kind: 'unix', path }, () => undefined)).rejects.toMatchObject({
      code: 'address-in-use',
    });
    await listener.close();
    expect(() => execFileSync('test', ['-e', path])).toThrow();
    writeFileSync(path, 'not a socket');
    await expect(network.listen({ kind: 'unix', path }, () => undefined)).rejects.toMatchObject({
      code: 'address-not-allowed',
      message: `cannot listen on ${path}: it is a file and no socket`,
    });
  });

  it('keeps open connections when the listener closes', async () => {
    const accepting = await listening({ kind: 'unix', path: join(directory, 's') });
    const client = await network.connect(accepting.address, { timeoutMs: 1000 });
    connections.push(client);
    const server = await accepting.next();
    await listeners.pop()?.close();
    const receiver = new Recorder();
    server.start(receiver);
    client.send(Buffer.from('still here'));
    await receiver.until(() => receiver.bytes === 10);
  });

  it('adopts a listening socket that was opened elsewhere', async () => {
    const inherited = createServer();
    inherited.listen(0, '127.0.0.1');
    await once(inherited, 'listening');
    const { fd } = (inherited as unknown as { _handle: { fd: number } })._handle;
    const adopt = `
      import { adoptListener } from '@rephub/platform/node';
      const echo = (connection) => connection.start({
        received: (chunk) => connection.send(chunk), drained() {}, closed: () => process.exit(0),
        ended: () => connection.end(),
      });
      const { address } = await adoptListener(3, echo);
      console.log(address.port);`;
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '-C', '@rephub/source', '--input-type=module', '-e', adopt],
      { cwd: import.meta.dirname, stdio: ['ignore', 'pipe', 'inherit', fd] },
    );
    const [line] = (await once(child.stdout!, 'data')) as [Buffer];
    inherited.close();
    const address: Address = { kind: 'tcp', host: '127.0.0.1', port: Number(line.toString()) };
    const client = await network.connect(address, { timeoutMs: 2000 });
    const receiver = new Recorder();
    client.start(receiver);
    client.send(Buffer.from('echo'));
    client.end();
    await receiver.event('closed');
    expect(Buffer.concat(receiver.chunks).toString()).toBe('echo');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  it('costs less than 64 KiB for each idle client', async () => {
    const accepting = await listening({ kind: 'unix', path: join(directory, 's') });
    global.gc?.();
    const before = process.memoryUsage();
    const count = 500;
    for (let index = 0; index < count; index += 1) {
      const client = await network.connect(accepting.address, { timeoutMs: 5000 });
      const server = await accepting.next();
      const atServer = new Recorder();
      server.start(atServer);
      client.start(new Recorder());
      client.send(Buffer.from('hello'));
      await atServer.until(() => atServer.bytes === 5);
      connections.push(client);
    }
    const after = process.memoryUsage();
    // Both ends live in this process.
    expect((after.arrayBuffers - before.arrayBuffers) / count).toBeLessThan(40 * 1024);
    expect((after.rss - before.rss) / count).toBeLessThan(64 * 1024);
  });
});
