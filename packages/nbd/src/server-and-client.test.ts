import { Fault } from '@rephub/platform';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type BlockDevice,
  blockStatus,
  BlockRequest,
  Command,
  CommandFlag,
  connectNbd,
  type ConnectNbdOptions,
  DeviceError,
  fixedExports,
  flushDevice,
  listExports,
  memoryDevice,
  NbdError,
  NbdServer,
  type OpenExport,
  readBytes,
  readSlices,
  isZeroes,
  type ServerFault,
  type ServerLimits,
  trimRange,
  writeBytes,
  zeroRange,
} from './index.js';
import { ManualClock, settle } from './testing/manual-clock.js';
import { type Cutter, memoryNetwork, uncut } from './testing/memory-network.js';

const MIB = 1024 * 1024;

interface Rig {
  clock: ManualClock;
  server: NbdServer;
  faults: ServerFault[];
  readonly connect: (options?: ConnectNbdOptions, uri?: string) => ReturnType<typeof connectNbd>;
  platform: { clock: ManualClock; network: ReturnType<typeof memoryNetwork> };
}

async function rig(
  devices: Record<string, BlockDevice>,
  { cut = uncut, limits = {} }: { cut?: Cutter; limits?: Partial<ServerLimits> } = {},
): Promise<Rig> {
  const clock = new ManualClock();
  const platform = { clock, network: memoryNetwork(cut) };
  const faults: ServerFault[] = [];
  const server = new NbdServer({
    platform,
    exports: fixedExports(new Map(Object.entries(devices))),
    limits,
    onFault: (fault) => faults.push(fault),
  });
  await server.listen({ kind: 'tcp', host: 'here', port: 1 });
  return {
    clock,
    platform,
    server,
    faults,
    connect: (options = {}, uri = 'nbd://here:1/disk') => connectNbd(platform, uri, options),
  };
}

async function errorOf(promise: Promise<unknown>): Promise<number> {
  try {
    await promise;
    return 0;
  } catch (error) {
    if (error instanceof DeviceError) return error.nbdError;
    throw error;
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
}

const CUTTERS: Record<string, Cutter> = {
  'whole chunks': uncut,
  'single bytes': (bytes) => Array.from(bytes, (_, index) => bytes.subarray(index, index + 1)),
  'chunks of 7': (bytes) =>
    Array.from({ length: Math.ceil(bytes.length / 7) }, (_, index) => bytes.subarray(index * 7, index * 7 + 7)),
};

describe.each(Object.entries(CUTTERS))('server and client over %s', (_, cut) => {
  describe.each([true, false])('extended headers %s', (extendedHeaders) => {
    it('write, read, zero, trim, flush, FUA and block status mean what they say', async () => {
      const { connect, server, faults } = await rig({ disk: memoryDevice(4 * MIB) }, { cut });
      const client = await connect({ extendedHeaders });
      expect(client.sizeBytes).toBe(4 * MIB);
      expect(client.abilities.contexts).toEqual(['base:allocation']);
      const bytes = Buffer.from(Array.from({ length: 3000 }, (_unused, index) => index % 251));
      await writeBytes(client, 70_000, bytes);
      await writeBytes(client, 1 * MIB, bytes, true);
      expect(await readBytes(client, 70_000, 3000)).toEqual(bytes);
      await flushDevice(client);
      await zeroRange(client, 70_100, 100, CommandFlag.NoHole);
      expect((await readBytes(client, 70_000, 300)).subarray(100, 200)).toEqual(Buffer.alloc(100));
      expect(await blockStatus(client, 0, 4 * MIB, 'base:allocation')).toEqual({
        runs: [65_536, 3, 65_536, 0, MIB - 131_072, 3, 65_536, 0, 3 * MIB - 65_536, 3],
      });
      await trimRange(client, 65_536, 65_536);
      const slices = await readSlices(client, 65_536, 65_536);
      expect(slices.every(isZeroes)).toBe(true);
      await client.close();
      await settle();
      expect(server.clients()).toEqual([]);
      expect(faults).toEqual([]);
    });
  });
});

describe('server and client', () => {
  let plain: Rig;

  beforeEach(async () => {
    plain = await rig({ disk: memoryDevice(MIB) });
  });

  afterEach(async () => {
    await plain.server.close(0);
  });

  it('many requests in flight are answered out of order, each with its own data', async () => {
    const memory = memoryDevice(8 * MIB);
    const waiting: BlockRequest[] = [];
    const slow: BlockDevice = {
      ...devicePart(memory),
      submit: (request) => {
        if (request.command === Command.Read) waiting.push(request);
        else memory.submit(request);
      },
    };
    const { connect } = await rig({ disk: slow });
    const client = await connect();
    for (let index = 0; index < 100; index++) await writeBytes(client, index * 512, Buffer.alloc(512, index + 1));
    const reads = Array.from({ length: 100 }, (_, index) => readBytes(client, index * 512, 512));
    await settle();
    expect(client.inFlight).toBe(100);
    for (const request of waiting.reverse()) memory.submit(request);
    const answers = await Promise.all(reads);
    for (const [index, answer] of answers.entries()) expect(answer).toEqual(Buffer.alloc(512, index + 1));
  });

  it('a range outside of the device is EINVAL to reads and ENOSPC to writes, and the connection goes on', async () => {
    const client = await plain.connect();
    expect(await errorOf(readBytes(client, MIB - 10, 20))).toBe(NbdError.Einval);
    expect(await errorOf(readBytes(client, 2 ** 52, 20))).toBe(NbdError.Einval);
    expect(await errorOf(writeBytes(client, MIB - 10, Buffer.alloc(20)))).toBe(NbdError.Enospc);
    expect(await errorOf(zeroRange(client, MIB, 1))).toBe(NbdError.Enospc);
    expect(await errorOf(trimRange(client, MIB, 1))).toBe(NbdError.Einval);
    expect(await readBytes(client, MIB - 10, 10)).toEqual(Buffer.alloc(10));
  });

  it('requests that are not aligned to the minimum block size are EINVAL', async () => {
    const { connect } = await rig({ disk: memoryDevice(MIB, { limits: { minimumBytes: 512 } }) });
    const client = await connect();
    expect(client.limits.minimumBytes).toBe(512);
    expect(await errorOf(readBytes(client, 1, 512))).toBe(NbdError.Einval);
    expect(await errorOf(readBytes(client, 512, 511))).toBe(NbdError.Einval);
    expect(await errorOf(readBytes(client, 512, 1024))).toBe(0);
  });

  it('a payload beyond the maximum is read off and refused with EINVAL', async () => {
    const { connect } = await rig({ disk: memoryDevice(MIB, { limits: { maximumBytes: 65_536 } }) });
    const client = await connect();
    expect(await errorOf(writeBytes(client, 0, Buffer.alloc(65_537)))).toBe(NbdError.Einval);
    expect(await errorOf(readBytes(client, 0, 65_537))).toBe(NbdError.Einval);
    expect(await errorOf(writeBytes(client, 0, Buffer.alloc(65_536)))).toBe(0);
  });

  it('a read-only export refuses changes with EPERM at the server', async () => {
    const { connect } = await rig({ disk: memoryDevice(MIB, { abilities: { readOnly: true } }) });
    const client = await connect();
    expect(client.abilities.readOnly).toBe(true);
    expect(await errorOf(writeBytes(client, 0, Buffer.alloc(1)))).toBe(NbdError.Einval);
    expect(await readBytes(client, 0, 1)).toEqual(Buffer.alloc(1));
  });

  it("an unknown export is a ConfigFault that carries the server's words", async () => {
    await expect(plain.connect({}, 'nbd://here:1/other')).rejects.toMatchObject({ code: 'export-unknown' });
    expect(await codeOf(plain.connect({}, 'nbd://here:1/other'))).toBe('export-unknown');
  });

  it('the empty name opens the only export, whose full name the client learns', async () => {
    const client = await plain.connect({}, 'nbd://here:1');
    expect(client.exportName).toBe('disk');
  });

  it('listing tells all names in their order', async () => {
    const { platform } = await rig({ b: memoryDevice(512), a: memoryDevice(512) });
    expect((await listExports(platform, 'nbd://here:1')).map(({ name }) => name)).toEqual(['b', 'a']);
  });

  it('more requests than the limit wait at the socket, not in the server', async () => {
    const memory = memoryDevice(MIB);
    const waiting: BlockRequest[] = [];
    let most = 0;
    const slow: BlockDevice = {
      ...devicePart(memory),
      submit: (request) => {
        waiting.push(request);
        most = Math.max(most, waiting.length);
      },
    };
    const { connect } = await rig({ disk: slow }, { limits: { requestsInFlight: 8 } });
    const client = await connect();
    const reads = Array.from({ length: 50 }, (_, index) => readBytes(client, index * 512, 512));
    for (let done = 0; done < 50;) {
      await settle();
      for (const request of waiting.splice(0)) {
        memory.submit(request);
        done++;
      }
    }
    await Promise.all(reads);
    expect(most).toBe(8);
  });

  it('a lost connection gives unfinished requests back in the order of submission', async () => {
    const stuck: BlockDevice = { ...devicePart(memoryDevice(MIB)), submit: () => undefined };
    const { connect, server } = await rig({ disk: stuck });
    let taken: BlockRequest[] = [];
    const client = await connect({
      lost: () => {
        taken = client.takeUnfinished();
      },
    });
    const completed: BlockRequest[] = [];
    const owner = { completed: (request: BlockRequest) => void completed.push(request) };
    const requests = Array.from({ length: 5 }, (_, index) => {
      const request = new BlockRequest(owner);
      request.length = 512;
      request.offset = index * 512;
      return request;
    });
    for (const request of requests) client.submit(request);
    await settle();
    void server.close(0);
    plain.clock.advance(1);
    await settle();
    client.destroy(new Fault('link', 'cut', 'cut by the test'));
    expect(taken).toEqual(requests);
    expect(completed).toEqual([]);
    expect(client.fault?.code).toBe('cut');
  });

  it('requests nobody takes are completed with ESHUTDOWN when the connection is lost', async () => {
    const stuck: BlockDevice = { ...devicePart(memoryDevice(MIB)), submit: () => undefined };
    const { connect } = await rig({ disk: stuck });
    const client = await connect();
    const read = errorOf(readBytes(client, 0, 512));
    client.destroy(new Fault('link', 'cut', 'cut by the test'));
    expect(await read).toBe(NbdError.Eshutdown);
    expect(await errorOf(readBytes(client, 0, 512))).toBe(NbdError.Eshutdown);
    await client.close();
  });

  it('a request that is not answered in time makes the connection dead', async () => {
    const stuck: BlockDevice = { ...devicePart(memoryDevice(MIB)), submit: () => undefined };
    const { connect, clock } = await rig({ disk: stuck });
    const faults: string[] = [];
    const client = await connect({ requestTimeoutMs: 1000, lost: (fault) => faults.push(fault.code) });
    const read = errorOf(readBytes(client, 0, 512));
    clock.advance(900);
    expect(faults).toEqual([]);
    clock.advance(400);
    expect(faults).toEqual(['request-timeout']);
    expect(await read).toBe(NbdError.Eshutdown);
  });

  it('a zeroing that is done by writing takes its time: it goes in parts, each of which is answered in time', async () => {
    const memory = memoryDevice(1024 * MIB);
    const lengths: number[] = [];
    const slow: BlockDevice = {
      ...devicePart(memory),
      submit: (request) => {
        lengths.push(request.length);
        clock.after((request.length / (8 * MIB)) * 1000, () => memory.submit(request));
      },
    };
    const { connect, clock } = await rig({ disk: slow });
    const faults: string[] = [];
    const client = await connect({ requestTimeoutMs: 30_000, lost: (fault) => faults.push(fault.code) });
    const zeroing = errorOf(zeroRange(client, MIB, 1000 * MIB, CommandFlag.Fua));
    for (let second = 0; second < 200; second++) {
      await settle();
      clock.advance(1000);
    }
    expect(faults).toEqual([]);
    expect(await zeroing).toBe(0);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(1000 * MIB);
    // What is quick goes as it is.
    lengths.length = 0;
    const quick = [trimRange(client, 0, 200 * MIB), zeroRange(client, 0, 200 * MIB, CommandFlag.FastZero)];
    for (let second = 0; second < 40; second++) {
      await settle();
      clock.advance(1000);
    }
    await Promise.all(quick);
    expect(lengths).toEqual([200 * MIB, 200 * MIB]);
  });

  it('closing the server answers what is in flight first', async () => {
    const memory = memoryDevice(MIB);
    const waiting: BlockRequest[] = [];
    const slow: BlockDevice = { ...devicePart(memory), submit: (request) => void waiting.push(request) };
    const { connect, server } = await rig({ disk: slow });
    const client = await connect();
    const read = readBytes(client, 0, 512);
    await settle();
    const closed = server.close(60_000);
    await settle();
    for (const request of waiting) memory.submit(request);
    expect(await read).toEqual(Buffer.alloc(512));
    await closed;
  });

  it('an export is released once its client has gone, not before its requests are back', async () => {
    const memory = memoryDevice(MIB);
    const waiting: BlockRequest[] = [];
    let released = 0;
    const opened: OpenExport = {
      device: { ...devicePart(memory), submit: (request) => void waiting.push(request) },
      name: 'disk',
      description: 'a disk',
      release: () => {
        released++;
      },
    };
    const clock = new ManualClock();
    const platform = { clock, network: memoryNetwork() };
    const server = new NbdServer({ platform, exports: { list: () => [], open: () => Promise.resolve(opened) } });
    await server.listen({ kind: 'tcp', host: 'here', port: 1 });
    const client = await connectNbd(platform, 'nbd://here:1/x');
    expect(client.description).toBe('a disk');
    const read = errorOf(readBytes(client, 0, 512));
    await settle();
    client.destroy(new Fault('link', 'cut', 'cut by the test'));
    await settle();
    expect(released).toBe(0);
    for (const request of waiting) memory.submit(request);
    expect(released).toBe(1);
    expect(await read).toBe(NbdError.Eshutdown);
    expect(server.clients()).toEqual([]);
  });

  it('a client that never finishes negotiating is ended in time', async () => {
    const connection = await plain.platform.network.connect({ kind: 'tcp', host: 'here', port: 1 }, { timeoutMs: 1 });
    const events: string[] = [];
    connection.start({
      received: () => undefined,
      drained: () => undefined,
      ended: () => undefined,
      closed: () => events.push('closed'),
    });
    await settle();
    plain.clock.advance(30_001);
    await settle();
    expect(events).toEqual(['closed']);
    expect(plain.faults.map(({ code }) => code)).toEqual(['negotiation-timeout']);
  });

  it('nbds is refused until there is TLS', async () => {
    expect(await codeOf(plain.connect({}, 'nbds://here:1/disk'))).toBe('tls-not-yet');
  });
});

/** A device's face without its methods, to be completed by the test. */
function devicePart(device: BlockDevice): Omit<BlockDevice, 'submit'> {
  return {
    sizeBytes: device.sizeBytes,
    abilities: device.abilities,
    limits: device.limits,
    close: () => device.close(),
  };
}
