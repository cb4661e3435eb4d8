/** A slow flush is waited for, a server that is gone is not. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type BlockDevice,
  type BlockRequest,
  Command,
  connectNbd,
  DeviceError,
  fixedExports,
  flushDevice,
  memoryDevice,
  type NbdClient,
  NbdError,
  NbdServer,
  readBytes,
  writeBytes,
} from '../index.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { memoryNetwork } from '../testing/memory-network.js';
import { Fault, LinkFault } from '@rephub/platform';

const LIMIT_MS = 30_000;

/** Does one thing at a time, and each when it is told to. */
class OneAtATime implements BlockDevice {
  readonly #memory = memoryDevice(1024 * 1024);
  readonly abilities = this.#memory.abilities;
  readonly limits = this.#memory.limits;
  readonly sizeBytes = this.#memory.sizeBytes;
  readonly queue: BlockRequest[] = [];

  submit(request: BlockRequest): void {
    this.queue.push(request);
  }

  /** The oldest is done. */
  next(): Command | undefined {
    const request = this.queue.shift();
    if (request !== undefined) this.#memory.submit(request);
    return request?.command;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

describe('a request that takes longer than the limit', () => {
  let clock: ManualClock;
  let server: NbdServer;
  let disk: OneAtATime;
  let client: NbdClient;
  let faults: string[];
  let isAway: boolean;
  let connects: number;

  beforeEach(async () => {
    [clock, disk, faults, isAway, connects] = [new ManualClock(), new OneAtATime(), [], false, 0];
    const network = memoryNetwork();
    const platform = {
      clock,
      network: {
        ...network,
        listen: network.listen.bind(network),
        connect: async (...asked: Parameters<typeof network.connect>) => {
          connects++;
          if (!isAway) return await network.connect(...asked);
          // As from a host that is gone: nobody says no.
          const [, { timeoutMs }] = asked;
          await new Promise<void>((resolve) => clock.after(timeoutMs, resolve));
          throw new LinkFault('connect-timeout', 'nobody is there');
        },
      },
    };
    server = new NbdServer({
      platform,
      exports: fixedExports(new Map([['disk', disk]])),
      limits: {},
      onFault: () => undefined,
    });
    await server.listen({ kind: 'tcp', host: 'here', port: 1 });
    const lost = ({ code }: { code: string }): number => faults.push(code);
    client = await connectNbd(platform, 'nbd://here:1/disk', { requestTimeoutMs: LIMIT_MS, lost });
    connects = 0;
  });

  afterEach(async () => {
    client.destroy(new Fault('link', 'cut', 'the test is over'));
    // What it has not done keeps a server from closing.
    while (disk.next() !== undefined);
    const closed = server.close(0);
    await settle();
    clock.advance(1);
    await closed;
  });

  async function pass(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += 1000) {
      clock.advance(1000);
      await settle();
    }
  }

  const outcome = (work: Promise<unknown>): Promise<number> =>
    work.then(
      () => 0,
      (error: unknown) => (error instanceof DeviceError ? error.nbdError : -1),
    );

  it('is waited for when it is a flush and the server answers others, and so is what waits behind it', async () => {
    const flush = outcome(flushDevice(client));
    const read = outcome(readBytes(client, 0, 512));
    await pass(5 * LIMIT_MS);
    expect(faults).toEqual([]);
    // Not more often than it takes.
    expect(connects).toBeLessThanOrEqual(5);
    expect(disk.next()).toBe(Command.Flush);
    expect(await flush).toBe(0);
    // It has the whole of its time from then on.
    await pass(LIMIT_MS - 1000);
    expect(disk.next()).toBe(Command.Read);
    expect(await read).toBe(0);
    expect(faults).toEqual([]);
  });

  it('is waited for when it is a write that is to be stable', async () => {
    const write = outcome(writeBytes(client, 0, Buffer.alloc(512, 1), true));
    await pass(3 * LIMIT_MS);
    disk.next();
    expect(await write).toBe(0);
    expect(faults).toEqual([]);
  });

  it('is not when the server answers nobody', async () => {
    const flush = outcome(flushDevice(client));
    await pass(1000);
    isAway = true;
    await pass(LIMIT_MS + LIMIT_MS / 4 + 6000);
    expect(faults).toEqual(['request-timeout']);
    expect(await flush).toBe(NbdError.Eshutdown);
  });

  it('is not when the server answers nobody any more', async () => {
    void outcome(flushDevice(client));
    await pass(3 * LIMIT_MS);
    isAway = true;
    await pass(2 * LIMIT_MS);
    expect(faults).toEqual(['request-timeout']);
  });

  it('is not when it came before the flush', async () => {
    const read = outcome(readBytes(client, 0, 512));
    void outcome(flushDevice(client));
    await pass(LIMIT_MS + LIMIT_MS / 4);
    expect(faults).toEqual(['request-timeout']);
    expect(await read).toBe(NbdError.Eshutdown);
  });

  it('is not for ever', async () => {
    const flush = outcome(flushDevice(client));
    await pass(19 * LIMIT_MS);
    expect(faults).toEqual([]);
    await pass(2 * LIMIT_MS);
    expect(faults).toEqual(['request-timeout']);
    expect(await flush).toBe(NbdError.Eshutdown);
  });

  it('has no more than its time when it is a read behind a flush that was answered', async () => {
    void outcome(flushDevice(client));
    const read = outcome(readBytes(client, 0, 512));
    await pass(3 * LIMIT_MS);
    disk.next();
    await pass(LIMIT_MS + LIMIT_MS / 2);
    expect(faults).toEqual(['request-timeout']);
    expect(await read).toBe(NbdError.Eshutdown);
  });
});
