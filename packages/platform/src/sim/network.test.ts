import { describe, expect, it } from 'vitest';
import type { Address, Connection, Receiver } from '../network.js';
import { SimClock } from './clock.js';
import { drip } from './link-conditions.js';
import { type SimLink } from './link.js';
import { SimNetwork } from './network.js';
import { SeededRandomness } from './randomness.js';

const ADDRESS: Address = { kind: 'tcp', host: 'hub', port: 9010 };

class Recorder implements Receiver {
  readonly events: string[] = [];
  readonly chunks: Buffer[] = [];
  onChunk: ((chunk: Buffer) => void) | null = null;
  received(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.onChunk?.(chunk);
  }
  drained(): void {
    this.events.push('drained');
  }
  ended(): void {
    this.events.push('ended');
  }
  closed(error: Error | null): void {
    this.events.push(error === null ? 'closed' : `closed: ${'code' in error ? String(error.code) : error.message}`);
  }
  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

interface Pair {
  readonly clock: SimClock;
  readonly network: SimNetwork;
  readonly link: SimLink;
  readonly client: Connection;
  readonly server: Connection;
  readonly atClient: Recorder;
  readonly atServer: Recorder;
}

async function pair(): Promise<Pair> {
  const clock = new SimClock();
  const network = new SimNetwork({ clock, latencyMs: 5 });
  let server: Connection | undefined;
  await network.listen(ADDRESS, (connection) => {
    server = connection;
  });
  const connecting = network.connect(ADDRESS, { timeoutMs: 1000 });
  await clock.advance(10);
  const client = await connecting;
  const [link] = network.links(ADDRESS);
  const atClient = new Recorder();
  const atServer = new Recorder();
  client.start(atClient);
  server!.start(atServer);
  return { clock, network, link: link!, client, server: server!, atClient, atServer };
}

describe('SimNetwork', () => {
  it('delivers in order after the latency, small memory copied, whatever the fragments', async () => {
    const seed = 7;
    const randomness = new SeededRandomness(seed);
    const { clock, network, client, atServer } = await pair();
    network.conditionsOf(ADDRESS).fragmentBytes = () => 1 + randomness.below(700);
    const sent = randomness.bytes(100_000);
    const small = Buffer.alloc(100);
    for (let at = 0; at < sent.length;) {
      const length = Math.min(randomness.chance() ? 100 : 5000, sent.length - at);
      if (length <= 100) client.send(small.fill(sent.subarray(at, at + length)).subarray(0, length));
      else client.send(sent.subarray(at, at + length));
      at += length;
    }
    await clock.advance(4);
    expect(atServer.chunks).toEqual([]);
    await clock.advance(100);
    expect(atServer.bytes.equals(sent), `seed ${seed}`).toBe(true);
  });

  it('holds back what does not fit the window while the receiver is paused, and says when it drains', async () => {
    const { clock, client, server, atClient, atServer } = await pair();
    server.pause();
    for (let count = 0; count < 40; count += 1) client.send(Buffer.alloc(65_536, count));
    await clock.advance(100);
    expect(client.congested).toBe(true);
    expect(atServer.chunks.length).toBe(0);
    expect(client.queuedBytes).toBeGreaterThan(2 * 1024 * 1024);
    server.resume();
    await clock.advance(1000);
    expect(atServer.bytes.length).toBe(40 * 65_536);
    expect([client.queuedBytes, client.congested, atClient.events]).toEqual([0, false, ['drained']]);
  });

  it('takes the time that the bandwidth says', async () => {
    const { clock, network, client, atServer } = await pair();
    network.conditionsOf(ADDRESS).bytesPerMs = 1000;
    client.send(Buffer.alloc(10_000));
    client.send(Buffer.alloc(10_000));
    await clock.advance(16);
    expect(atServer.bytes.length).toBe(10_000);
    await clock.advance(10);
    expect(atServer.bytes.length).toBe(20_000);
  });

  it('lets one side end and the other go on', async () => {
    const { clock, network, client, server, atClient, atServer } = await pair();
    client.send(Buffer.from('question'));
    client.end();
    await clock.advance(10);
    expect([atServer.bytes.toString(), atServer.events]).toEqual(['question', ['ended']]);
    server.send(Buffer.from('answer'));
    server.end();
    await clock.advance(20);
    expect([atClient.bytes.toString(), atClient.events, atServer.events]).toEqual([
      'answer',
      ['ended', 'closed'],
      ['ended', 'closed'],
    ]);
    expect(network.links()).toEqual([]);
  });

  it('cuts after a chosen byte, not one more', async () => {
    const { clock, link, client, atClient, atServer } = await pair();
    link.cutAfter('to-server', 1234);
    client.send(Buffer.alloc(1000, 1));
    client.send(Buffer.alloc(1000, 2));
    await clock.advance(20);
    expect(atServer.bytes.length).toBe(1234);
    expect([atClient.events, atServer.events]).toEqual([['closed: connection-reset'], ['closed: connection-reset']]);
  });

  it('can be frozen half-open: nobody hears anything until it thaws', async () => {
    const { clock, link, client, atClient, atServer } = await pair();
    link.freeze();
    client.send(Buffer.from('x'));
    await clock.advance(60_000);
    expect([atServer.chunks, atServer.events, atClient.events]).toEqual([[], [], []]);
    link.thaw();
    await clock.advance(10);
    expect(atServer.bytes.toString()).toBe('x');
  });

  it('tells a sender that the other side is gone', async () => {
    const { clock, client, server, atClient, atServer } = await pair();
    server.destroy();
    await clock.advance(10);
    expect([atServer.events, atClient.events]).toEqual([['closed'], ['ended']]);
    client.send(Buffer.from('x'));
    await clock.advance(20);
    expect(atClient.events).toEqual(['ended', 'closed: connection-reset']);
  });

  it('refuses, times out and gives up connecting as the real one does', async () => {
    const clock = new SimClock();
    const network = new SimNetwork({ clock });
    const code = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);
    const refused = code(network.connect(ADDRESS, { timeoutMs: 50 }));
    await clock.advance(10);
    expect(await refused).toMatchObject({ kind: 'link', code: 'connect-refused' });
    network.setSilent(ADDRESS, true);
    const late = code(network.connect(ADDRESS, { timeoutMs: 50 }));
    await clock.advance(60);
    expect(await late).toMatchObject({ code: 'connect-timeout' });
    const controller = new AbortController();
    const aborted = code(network.connect(ADDRESS, { timeoutMs: 50, signal: controller.signal }));
    controller.abort();
    expect(await aborted).toMatchObject({ code: 'connect-aborted' });
    await network.listen(ADDRESS, () => undefined);
    await expect(network.listen(ADDRESS, () => undefined)).rejects.toMatchObject({
      kind: 'link',
      code: 'address-in-use',
    });
  });

  it('does not deliver before start, and hands the stream over to a second receiver', async () => {
    const { clock, client, server, atServer } = await pair();
    client.send(Buffer.from('one'));
    await clock.advance(10);
    const second = new Recorder();
    server.start(second);
    client.send(Buffer.from('two'));
    await clock.advance(10);
    expect([atServer.bytes.toString(), second.bytes.toString()]).toEqual(['one', 'two']);
  });
});

describe('SimNetwork when it goes wrong', () => {
  it('lets connections overtake one another, and never a byte another of its own connection', async () => {
    const seed = 11;
    const randomness = new SeededRandomness(seed);
    const clock = new SimClock();
    const network = new SimNetwork({ clock });
    network.conditionsOf(ADDRESS).jitterMs = () => randomness.fraction() * 50;
    const arrived: string[] = [];
    await network.listen(ADDRESS, (connection) => {
      const at = new Recorder();
      at.onChunk = (chunk) => arrived.push(chunk.toString('latin1'));
      connection.start(at);
    });
    const connecting = Promise.all(['a', 'b'].map(() => network.connect(ADDRESS, { timeoutMs: 1000 })));
    await clock.advance(200);
    const [a, b] = await connecting;
    const sent: string[] = [];
    for (let round = 0; round < 26; round += 1) {
      const letter = String.fromCharCode(65 + round);
      a?.send(Buffer.from(`a${letter}`));
      b?.send(Buffer.from(`b${letter}`));
      sent.push(`a${letter}`, `b${letter}`);
      await clock.advance(1);
    }
    await clock.advance(100);
    expect(arrived.slice().sort()).toEqual(sent.slice().sort());
    for (const name of ['a', 'b']) {
      const own = arrived.filter((text) => text.startsWith(name));
      expect(own, `seed ${seed}`).toEqual(own.slice().sort());
    }
    expect(arrived, `seed ${seed}`).not.toEqual(sent);
  });

  it('loses one direction only', async () => {
    const { clock, link, client, server, atClient, atServer } = await pair();
    link.freeze('to-server');
    client.send(Buffer.from('question'));
    server.send(Buffer.from('news'));
    await clock.advance(1000);
    expect([atServer.bytes.toString(), atClient.bytes.toString()]).toEqual(['', 'news']);
    link.thaw('to-server');
    await clock.advance(10);
    expect(atServer.bytes.toString()).toBe('question');
  });

  it('drips: so many bytes a millisecond, one after the other', async () => {
    const { clock, network, client, atServer } = await pair();
    drip(network.conditionsOf(ADDRESS), 2);
    client.send(Buffer.alloc(100, 1));
    await clock.advance(25.5);
    expect([atServer.bytes.length, atServer.chunks.length]).toEqual([40, 20]);
    await clock.advance(100);
    expect(atServer.bytes.length).toBe(100);
  });

  it('resets one end; the other stays open until it sends', async () => {
    const { clock, link, server, atClient, atServer } = await pair();
    link.reset('client');
    await clock.advance(60_000);
    expect([atClient.events, atServer.events, link.isOpen]).toEqual([['closed: connection-reset'], [], true]);
    server.send(Buffer.from('x'));
    await clock.advance(20);
    expect(atServer.events).toEqual(['closed: connection-reset']);
  });

  it('lets the other end learn of a reset much later, even when it sends', async () => {
    const { clock, link, server, atServer } = await pair();
    link.reset('client', 30_000);
    server.send(Buffer.from('x'));
    await clock.advance(29_000);
    expect(atServer.events).toEqual([]);
    await clock.advance(2_000);
    expect(atServer.events).toEqual(['closed: connection-reset']);
  });

  it('has the old connection still open at the server when the client is back with a new one', async () => {
    const { clock, network, link } = await pair();
    link.reset('client', Infinity);
    const again = network.connect(ADDRESS, { timeoutMs: 1000 });
    await clock.advance(20);
    await again;
    expect(network.links(ADDRESS).length).toBe(2);
  });

  it('refuses connections for a time, and leaves open ones alone', async () => {
    const { clock, network, client, atServer } = await pair();
    network.setRefusing(ADDRESS, true);
    const refused = network.connect(ADDRESS, { timeoutMs: 1000 }).catch((error: unknown) => error);
    client.send(Buffer.from('x'));
    await clock.advance(20);
    expect(await refused).toMatchObject({ code: 'connect-refused' });
    expect(atServer.bytes.toString()).toBe('x');
    network.setRefusing(ADDRESS, false);
    const connecting = network.connect(ADDRESS, { timeoutMs: 1000 });
    await clock.advance(20);
    expect((await connecting).peer).toContain('hub');
  });

  it('leaves connections in the accept queue, with what was sent, for a time', async () => {
    const clock = new SimClock();
    const network = new SimNetwork({ clock });
    network.conditionsOf(ADDRESS).acceptDelayMs = () => 500;
    const atServer = new Recorder();
    let accepted = 0;
    const listener = await network.listen(ADDRESS, (connection) => {
      accepted += 1;
      connection.start(atServer);
    });
    const connect = async (): Promise<Connection> => {
      const connecting = network.connect(ADDRESS, { timeoutMs: 100 });
      await clock.advance(10);
      return await connecting;
    };
    (await connect()).send(Buffer.from('early'));
    await clock.advance(400);
    expect(accepted).toBe(0);
    await clock.advance(100);
    expect([accepted, atServer.bytes.toString()]).toEqual([1, 'early']);
    const late = new Recorder();
    (await connect()).start(late);
    await listener.close();
    await clock.advance(1000);
    expect([accepted, late.events]).toEqual([1, ['ended']]);
  });

  it('tells a receiver that comes too late that the connection is gone', async () => {
    const { clock, server } = await pair();
    const late = new Recorder();
    server.destroy();
    await clock.advance(10);
    server.start(late);
    await clock.advance(10);
    expect(late.events).toEqual([]);
    const other = await pair();
    other.link.cut();
    await other.clock.advance(10);
    expect(other.atServer.events).toEqual(['closed: connection-reset']);
  });
});
