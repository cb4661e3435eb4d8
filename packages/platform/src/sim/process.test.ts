import { describe, expect, it } from 'vitest';
import { sleep } from '../clock.js';
import type { Address, Connection, Receiver } from '../network.js';
import { simPlatform, type SimPlatform } from './index.js';
import { SimFiles } from './files.js';
import { SimProcess } from './process.js';

const ADDRESS: Address = { kind: 'tcp', host: 'hub', port: 9010 };

/** Notes what reaches the code. */
function noting(events: string[]): Receiver {
  return {
    received: (chunk) => events.push(chunk.toString()),
    drained: () => events.push('drained'),
    ended: () => events.push('ended'),
    closed: (error) => events.push(error === null ? 'closed' : 'reset'),
  };
}

function host(): SimPlatform {
  const plain = simPlatform(1);
  const files = new SimFiles({ clock: plain.clock, delayMs: (operation) => (operation === 'sync' ? 10 : 1) });
  return simPlatform(1, { ...plain, files });
}

/** A server process with one connection from a client on the bare network. */
async function connected(): Promise<{
  host: SimPlatform;
  server: SimProcess;
  client: Connection;
  atServer: string[];
  atClient: string[];
  accepted: Connection[];
}> {
  const on = host();
  const server = new SimProcess(on);
  const atServer: string[] = [];
  const atClient: string[] = [];
  const accepted: Connection[] = [];
  await server.platform.network.listen(ADDRESS, (connection) => {
    accepted.push(connection);
    connection.start(noting(atServer));
  });
  const connecting = on.network.connect(ADDRESS, { timeoutMs: 100 });
  await on.clock.advance(1);
  const client = await connecting;
  client.start(noting(atClient));
  return { host: on, server, client, atServer, atClient, accepted };
}

describe('SimProcess, killed', () => {
  it('runs no timer any more, and nothing that it had begun completes into its code', async () => {
    const on = host();
    const process = new SimProcess(on);
    const { clock, files } = process.platform;
    const reached: string[] = [];
    void sleep(clock, 5).then(() => reached.push('timer'));
    const work = async (): Promise<void> => {
      const file = await files.open('/a', 'create');
      reached.push('opened');
      await file.write([Buffer.from('x')], 0);
      reached.push('written');
      await file.sync();
      reached.push('synced');
    };
    void work();
    await on.clock.advance(2.5);
    process.kill();
    await on.clock.advance(100);
    expect(reached).toEqual(['opened', 'written']);
    expect(process.state).toBe('dead');
  });

  it('leaves what it wrote in the page cache, and has no effect with what it still calls', async () => {
    const on = host();
    const process = new SimProcess(on);
    const opening = process.platform.files.open('/a', 'create');
    await on.clock.advance(1);
    const file = await opening;
    void file.write([Buffer.from('early')], 0);
    process.kill();
    void file.write([Buffer.from('late')], 0);
    void process.platform.files.remove('/a');
    await on.clock.advance(100);
    const seen = Buffer.alloc(5);
    expect([on.files.look('/a', seen, 0), seen.toString()]).toEqual([5, 'early']);
  });

  it('gives its locks back', async () => {
    const on = host();
    const first = new SimProcess(on);
    const second = new SimProcess(on);
    const locking = first.platform.files.lock('/lock');
    await on.clock.advance(1);
    expect(await locking).not.toBeNull();
    const claiming = first.platform.files.claim?.('/lock');
    await on.clock.advance(1);
    expect(await claiming).not.toBe('in-use');
    const refused = second.platform.files.claim?.('/lock');
    await on.clock.advance(1);
    expect(await refused).toBe('in-use');
    // This one dies while the kernel is about to give it the lock.
    const other = first.platform.files.lock('/other');
    void other;
    first.kill();
    await on.clock.advance(5);
    const again = Promise.all([second.platform.files.lock('/lock'), second.platform.files.lock('/other')]);
    await on.clock.advance(1);
    expect(await again).not.toContain(null);
    const claimed = second.platform.files.claim?.('/lock');
    await on.clock.advance(1);
    expect(await claimed).not.toBe('in-use');
  });

  it('has its connections ended and its listeners gone', async () => {
    const { host: on, server, atServer, atClient } = await connected();
    server.kill();
    await on.clock.advance(10);
    expect([atClient, atServer]).toEqual([['ended'], []]);
    const refused = on.network.connect(ADDRESS, { timeoutMs: 100 }).catch((error: unknown) => error);
    await on.clock.advance(10);
    expect(await refused).toMatchObject({ code: 'connect-refused' });
  });

  it('leaves no connection behind that was on its way when it died', async () => {
    const on = host();
    const process = new SimProcess(on);
    const atServer: string[] = [];
    await on.network.listen(ADDRESS, (connection) => connection.start(noting(atServer)));
    void process.platform.network.connect(ADDRESS, { timeoutMs: 100 });
    process.kill();
    await on.clock.advance(10);
    expect(atServer).toEqual(['ended']);
  });

  it('is not told of the crash of its disk: the operation just never completes', async () => {
    const on = host();
    const process = new SimProcess(on);
    const seen: string[] = [];
    on.files.onCrash = () => seen.push('crashed');
    on.files.crashAt(1);
    void process.platform.files.open('/a', 'create').then(
      () => seen.push('opened'),
      () => seen.push('told'),
    );
    await on.clock.advance(100);
    expect(seen).toEqual(['crashed']);
  });

  it('dies at the step that was asked for', async () => {
    const lived = async (step: number): Promise<string[]> => {
      const on = host();
      const process = new SimProcess(on);
      const reached: string[] = [];
      process.killAtStep(step, () => reached.push('killed'));
      const work = async (): Promise<void> => {
        for (let round = 1; round <= 3; round += 1) {
          await sleep(process.platform.clock, 1);
          reached.push(`slept ${round}`);
        }
      };
      void work();
      await on.clock.advance(10);
      return reached;
    };
    expect(await lived(1)).toEqual(['killed']);
    expect(await lived(3)).toEqual(['slept 1', 'slept 2', 'killed']);
    expect(await lived(9)).toEqual(['slept 1', 'slept 2', 'slept 3']);
  });
});

describe('SimProcess without power', () => {
  it('tells nobody; a peer that sends hears of it once the host is back', async () => {
    const { host: on, server, client, atClient } = await connected();
    server.losePower(1000);
    await on.clock.advance(500);
    client.send(Buffer.from('x'));
    await on.clock.advance(400);
    expect(atClient).toEqual([]);
    await on.clock.advance(200);
    expect(atClient).toEqual(['reset']);
  });

  it('never says a word when the host stays away, and takes no more than the kernels hold', async () => {
    const { host: on, server, client, atClient } = await connected();
    server.losePower();
    for (let count = 0; count < 10; count += 1) {
      client.send(Buffer.alloc(100_000));
      await on.clock.advance(100);
    }
    expect(atClient).toEqual([]);
    expect(client.queuedBytes).toBeGreaterThan(700_000);
  });
});

describe('SimProcess, paused', () => {
  it('gets what happened meanwhile when it goes on: expired timers first, the rest in its order', async () => {
    const { host: on, server, client, atServer, accepted } = await connected();
    const { clock, files } = server.platform;
    void files.open('/a', 'create').then(() => atServer.push('opened'));
    clock.after(50, () => atServer.push(`timer at ${clock.monotonicMs() - startMs}`));
    const cancelled = clock.after(40, () => atServer.push('cancelled'));
    const startMs = clock.monotonicMs();
    server.pause();
    client.send(Buffer.from('one'));
    client.send(Buffer.from('two'));
    const connecting = on.network.connect(ADDRESS, { timeoutMs: 100 });
    await on.clock.advance(100);
    await connecting;
    expect([atServer, accepted.length]).toEqual([[], 1]);
    cancelled.cancel();
    server.resume();
    await on.clock.advance(10);
    expect(atServer).toEqual(['timer at 100', 'opened', 'onetwo']);
    expect(accepted.length).toBe(2);
  });

  it('holds back a sender once the kernels are full', async () => {
    const { host: on, server, client, atServer } = await connected();
    server.pause();
    client.send(Buffer.alloc(3_000_000, 'x'));
    await on.clock.advance(1000);
    expect(client.congested).toBe(true);
    server.resume();
    await on.clock.advance(1000);
    expect(atServer.join('').length).toBe(3_000_000);
  });

  it('may be killed then, and stays silent', async () => {
    const { host: on, server, client, atServer, atClient } = await connected();
    server.pause();
    client.send(Buffer.from('x'));
    await on.clock.advance(10);
    server.kill();
    server.resume();
    await on.clock.advance(10);
    expect([atServer, atClient]).toEqual([[], ['ended']]);
  });

  it('keeps a connection paused that its code had paused', async () => {
    const { host: on, server, client, atServer, accepted } = await connected();
    accepted[0]?.pause();
    server.pause();
    client.send(Buffer.from('x'));
    server.resume();
    await on.clock.advance(10);
    expect(atServer).toEqual([]);
    accepted[0]?.resume();
    await on.clock.advance(10);
    expect(atServer).toEqual(['x']);
  });
});
