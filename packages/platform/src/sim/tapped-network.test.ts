import { describe, expect, it } from 'vitest';
import type { Address, Connection, Receiver } from '../network.js';
import { ForwardingConnection } from './forwarding-connection.js';
import { simPlatform, type SimPlatform } from './index.js';
import type { SimConnection } from './link.js';
import { SimProcess } from './process.js';
import { type ConnectionTap, tappedNetwork } from './tapped-network.js';

const ADDRESS: Address = { kind: 'tcp', host: 'hub', port: 9010 };

class Ear extends ForwardingConnection {
  readonly #heard: (what: string) => void;

  constructor(inner: SimConnection, heard: (what: string) => void) {
    super(inner);
    this.#heard = heard;
  }

  override send(chunk: Uint8Array): void {
    this.#heard(`sent ${Buffer.from(chunk).toString()}`);
    super.send(chunk);
  }
  override received(chunk: Buffer): void {
    this.#heard(`received ${chunk.toString()}`);
    super.received(Buffer.from(chunk.toString().toUpperCase()));
  }
  override destroy(): void {
    this.#heard('destroyed');
    super.destroy();
  }
}

function noting(events: string[]): Receiver {
  return {
    received: (chunk) => events.push(chunk.toString()),
    drained: () => events.push('drained'),
    ended: () => events.push('ended'),
    closed: (error) => events.push(error === null ? 'closed' : 'reset'),
  };
}

interface Tapped {
  readonly host: SimPlatform;
  readonly process: SimProcess;
  readonly own: Connection;
  readonly other: Connection;
  readonly heard: string[];
  readonly atOwn: string[];
  readonly atOther: string[];
}

/** A process whose host's network is listened to, connected to a server on the bare network. */
async function tapped(): Promise<Tapped> {
  const host = simPlatform(1);
  const heard: string[] = [];
  const tap: ConnectionTap = (connection, _address, side) =>
    new Ear(connection, (what) => heard.push(`${side} ${what}`));
  const process = new SimProcess({ ...host, network: tappedNetwork(host.network, tap) });
  const accepted: Connection[] = [];
  await host.network.listen(ADDRESS, (connection) => accepted.push(connection));
  const connecting = process.platform.network.connect(ADDRESS, { timeoutMs: 100 });
  await host.clock.advance(1);
  const own = await connecting;
  const [other] = accepted;
  if (other === undefined) throw new Error('nobody was accepted');
  const atOwn: string[] = [];
  const atOther: string[] = [];
  own.start(noting(atOwn));
  other.start(noting(atOther));
  return { host, process, own, other, heard, atOwn, atOther };
}

describe('tappedNetwork', () => {
  it('shows a test what leaves the host and what arrives, and lets it give something else instead', async () => {
    const { host, own, other, heard, atOwn, atOther } = await tapped();
    own.send(Buffer.from('ask'));
    await host.clock.advance(1);
    other.send(Buffer.from('answer'));
    other.end();
    await host.clock.advance(1);
    expect(heard).toEqual(['client sent ask', 'client received answer']);
    expect([atOther, atOwn]).toEqual([['ask'], ['ANSWER', 'ended']]);
  });

  it('listens at the side that accepts too', async () => {
    const host = simPlatform(1);
    const heard: string[] = [];
    const network = tappedNetwork(
      host.network,
      (connection, _address, side) => new Ear(connection, (what) => heard.push(`${side} ${what}`)),
    );
    const atServer: string[] = [];
    await network.listen(ADDRESS, (connection) => connection.start(noting(atServer)));
    const connecting = host.network.connect(ADDRESS, { timeoutMs: 100 });
    await host.clock.advance(1);
    (await connecting).send(Buffer.from('ask'));
    await host.clock.advance(1);
    expect([heard, atServer]).toEqual([['server received ask'], ['ASK']]);
  });

  it('hears the kernel close what a killed process had open, and nothing that the dead one still sends', async () => {
    const { host, process, own, heard, atOwn, atOther } = await tapped();
    process.kill();
    own.send(Buffer.from('late'));
    own.destroy();
    await host.clock.advance(1);
    expect([heard, atOwn, atOther]).toEqual([['client destroyed'], [], ['ended']]);
  });

  it('leaves the bytes for a stopped process in the kernel, unheard until it goes on', async () => {
    const { host, process, other, heard, atOwn } = await tapped();
    process.pause();
    other.send(Buffer.from('news'));
    await host.clock.advance(10);
    expect(heard).toEqual([]);
    process.resume();
    await host.clock.advance(10);
    expect([heard, atOwn]).toEqual([['client received news'], ['NEWS']]);
  });

  it('tells nobody when the host loses power', async () => {
    const { host, process, own, heard, atOther } = await tapped();
    process.losePower();
    own.send(Buffer.from('late'));
    await host.clock.advance(1000);
    expect([heard, atOther]).toEqual([[], []]);
  });
});
