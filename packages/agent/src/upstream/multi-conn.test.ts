import {
  type Abilities,
  ALL_ABILITIES,
  type BlockRequest,
  Command,
  flushDevice,
  NbdError,
  readBytes,
  writeBytes,
  zeroRange,
} from '@rephub/nbd';
import { LinkFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ForgetfulDisk } from '../testing/forgetful-disk.js';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { outcomeOf, upstreamKit } from '../testing/upstream-kit.js';
import { lanesToFlush, type MultiConnMode, planPool, type TrackDirty } from './multi-conn.js';
import { PLACE_BYTES } from './placement.js';
import { type OpenUpstream } from './lane.js';
import { type UpstreamOptions } from './upstream-parts.js';

const ABILITIES: Abilities = { ...ALL_ABILITIES, contexts: [] };
const data = (fill: number, length = 4096): Buffer => Buffer.alloc(length, fill);

describe('multi-conn modes', () => {
  it.each<[MultiConnMode, boolean, { most: number; needed: number; placed: boolean; advertised: boolean }]>([
    ['auto', true, { most: 4, needed: 1, placed: false, advertised: true }],
    ['auto', false, { most: 1, needed: 1, placed: false, advertised: true }],
    ['plugin', true, { most: 4, needed: 1, placed: false, advertised: true }],
    ['plugin', false, { most: 1, needed: 1, placed: false, advertised: false }],
    ['disable', true, { most: 1, needed: 1, placed: false, advertised: false }],
    ['disable', false, { most: 1, needed: 1, placed: false, advertised: false }],
    ['emulate', true, { most: 4, needed: 4, placed: true, advertised: true }],
    ['emulate', false, { most: 4, needed: 4, placed: true, advertised: true }],
    ['unsafe', true, { most: 4, needed: 1, placed: false, advertised: true }],
    ['unsafe', false, { most: 4, needed: 1, placed: false, advertised: true }],
  ])('%s, upstream with CAN_MULTI_CONN %s', (mode, multiConn, expected) => {
    expect(planPool(mode, 4, { ...ABILITIES, multiConn })).toEqual(expected);
  });

  it('emulate without flush is refused, by name', () => {
    expect(() => planPool('emulate', 4, { ...ABILITIES, flush: false })).toThrow('--multi-conn emulate');
  });

  it('auto without flush and CAN_MULTI_CONN advertises nothing that is not true', () => {
    expect(planPool('auto', 4, { ...ABILITIES, flush: false, multiConn: false }).advertised).toBe(false);
  });
});

describe('track-dirty: the connections that a flush goes to', () => {
  const lanes = (...dirty: boolean[]) => dirty.map((isDirty, place) => ({ place, isDirty }));
  it.each<[TrackDirty, boolean[], number[], number[]]>([
    ['fast', [false, false, false], [], []],
    ['fast', [false, true, false], [0, 1, 2], [0]],
    ['connection', [false, false, false], [], []],
    ['connection', [true, false, true], [0, 2], [0]],
    ['off', [false, false, false], [0, 1, 2], [0]],
    ['off', [true, true, false], [0, 1, 2], [0]],
  ])('%s, written to %j: emulate %j, otherwise %j', (track, dirty, emulated, otherwise) => {
    expect(lanesToFlush(lanes(...dirty), true, track).map(({ place }) => place)).toEqual(emulated);
    expect(lanesToFlush(lanes(...dirty), false, track).map(({ place }) => place)).toEqual(otherwise);
  });
});

describe('a connection that is added under load', () => {
  /** The first connections are of one server, those after `failOver` of another one with the older content. */
  async function setUp() {
    const clock = new SimClock();
    const servers = [1, 2].map(
      () => new ForgetfulDisk(clock, { sizeBytes: 64 * 1024, abilities: { multiConn: true } }),
    );
    const state = { failedOver: false, silent: false };
    const [first, second] = servers;
    if (first === undefined || second === undefined) throw new Error('there are two');
    const open: OpenUpstream = async (lost, timeoutMs) => {
      if (state.failedOver) return await second.open(lost, timeoutMs);
      const connection = await first.open(lost, timeoutMs);
      const submit = connection.submit.bind(connection);
      connection.submit = (request) => {
        if (!state.silent) clock.after(1, () => submit(request));
      };
      return connection;
    };
    const kit = await upstreamKit(clock, open, { connections: 4 });
    return { ...kit, second, state };
  }

  it('is used once an older one has answered since', async () => {
    const { upstream, outcome } = await setUp();
    const reads = Array.from({ length: 200 }, (_, at) => readBytes(upstream, (at % 16) * 4096, 4096));
    expect(upstream.status.connections).toBe(1);
    await outcome(Promise.all(reads));
    const more = Array.from({ length: 200 }, (_, at) => readBytes(upstream, (at % 16) * 4096, 4096));
    await outcome(Promise.all(more));
    expect(upstream.status.connections).toBeGreaterThan(1);
  });

  it('is not used while the older ones are silent: they may be of a server that is gone with what was not flushed', async () => {
    const { upstream, outcome, clock, second, state } = await setUp();
    expect(await outcome(writeBytes(upstream, 0, data(2)))).toBe(0);
    state.silent = true;
    state.failedOver = true;
    const read: Buffer[] = [];
    for (let at = 0; at < 40; at++)
      void readBytes(upstream, 0, 4096).then(
        (bytes) => read.push(bytes),
        () => undefined,
      );
    await clock.advance(2000);
    for (let at = 0; at < 40; at++)
      void readBytes(upstream, 0, 4096).then(
        (bytes) => read.push(bytes),
        () => undefined,
      );
    await clock.advance(2000);
    expect(second.opened).toBe(1);
    expect([read.length, second.done.length]).toEqual([0, 0]);
  });
});

describe('an upstream that keeps a cache per connection', () => {
  async function setUp(options: Partial<UpstreamOptions>) {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: 4 * PLACE_BYTES, cachePerConnection: true, delayMs: () => 1 });
    const kit = await upstreamKit(clock, disk.open, { connections: 3, multiConn: 'emulate', ...options });
    return { ...kit, disk };
  }
  const flushes = (disk: ForgetfulDisk): number[] =>
    disk.done.filter(({ command }) => command === Command.Flush).map(({ connection }) => connection);

  it('emulate: one flush covers what was written on every connection', async () => {
    const { upstream, disk, outcome } = await setUp({});
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(writeBytes(upstream, PLACE_BYTES, data(2)));
    expect(disk.done.map(({ connection }) => connection)).toEqual([1, 2]);
    await outcome(flushDevice(upstream));
    expect(disk.stable.subarray(0, 4096).equals(data(1))).toBe(true);
    expect(disk.stable.subarray(PLACE_BYTES, PLACE_BYTES + 4096).equals(data(2))).toBe(true);
  });

  it('emulate: reads see writes, whichever came first, also over an edge between connections', async () => {
    const { upstream, outcome } = await setUp({});
    const edge = PLACE_BYTES - 2048;
    await outcome(readBytes(upstream, edge, 4096));
    await outcome(writeBytes(upstream, edge, Buffer.concat([data(1, 2048), data(2, 2048)])));
    const reading = readBytes(upstream, edge, 4096);
    await outcome(reading);
    expect((await reading).equals(Buffer.concat([data(1, 2048), data(2, 2048)]))).toBe(true);
  });

  it('emulate: a huge zeroing is cut, a few pieces at a time', async () => {
    const clock = new SimClock();
    const sizeBytes = 256 * PLACE_BYTES;
    const device = new ScriptedDevice(sizeBytes, { multiConn: false });
    const { upstream, outcome } = await upstreamKit(clock, () => Promise.resolve(device), {
      ...{ connections: 2, multiConn: 'emulate' },
    });
    device.holding = true;
    const zeroing = outcomeOf(zeroRange(upstream, 512, sizeBytes - 512));
    expect(device.seen).toHaveLength(16);
    device.letGo();
    expect(await zeroing).toBe(0);
    expect(device.seen.length).toBeGreaterThanOrEqual(256);
    device.fail(Command.WriteZeroes, NbdError.Enospc, 1, 100 * PLACE_BYTES, 101 * PLACE_BYTES);
    expect(await outcome(zeroRange(upstream, 0, sizeBytes))).toBe(NbdError.Enospc);
  });

  it('emulate, fast: a flush goes to all when anything was written, and to none when nothing was', async () => {
    const { upstream, disk, outcome } = await setUp({ trackDirty: 'fast' });
    await outcome(flushDevice(upstream));
    disk.done.length = 0;
    await outcome(flushDevice(upstream));
    expect(flushes(disk)).toEqual([]);
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(flushDevice(upstream));
    expect(flushes(disk)).toEqual([1, 2, 3]);
  });

  it('emulate, connection: only those are flushed that were written to, and none twice', async () => {
    const { upstream, disk, outcome } = await setUp({ trackDirty: 'connection' });
    await outcome(flushDevice(upstream));
    disk.done.length = 0;
    await outcome(writeBytes(upstream, PLACE_BYTES, data(1)));
    await outcome(flushDevice(upstream));
    await outcome(flushDevice(upstream));
    expect(flushes(disk)).toEqual([2]);
  });

  it('emulate, off: every flush goes to every connection', async () => {
    const { upstream, disk, outcome } = await setUp({ trackDirty: 'off' });
    await outcome(flushDevice(upstream));
    await outcome(flushDevice(upstream));
    expect(flushes(disk)).toEqual([1, 2, 3, 1, 2, 3]);
  });

  it('emulate: a write under way while a flush is sent is flushed by the next one', async () => {
    const { upstream, disk, outcome } = await setUp({ trackDirty: 'connection' });
    const writing = outcomeOf(writeBytes(upstream, 0, data(1)));
    await outcome(flushDevice(upstream));
    await writing;
    await outcome(flushDevice(upstream));
    expect(disk.stable.subarray(0, 4096).equals(data(1))).toBe(true);
  });

  it('emulate: a flush is not believed that was under way when a connection failed another one, whose others are slow', async () => {
    const { upstream, disk, outcome } = await setUp({ trackDirty: 'connection' });
    await outcome(flushDevice(upstream));
    await outcome(writeBytes(upstream, 0, data(1)));
    await outcome(writeBytes(upstream, PLACE_BYTES, data(2)));
    const isFlush = (request: BlockRequest): boolean => request.command === Command.Flush;
    let [slow, failing] = [1, 1];
    disk.options.delayMs = (request, connection) => (isFlush(request) && connection === 1 && slow-- > 0 ? 20 : 1);
    disk.verdict = (request, connection) =>
      isFlush(request) && connection === 2 && failing-- > 0 ? NbdError.Eio : NbdError.Ok;
    const first = outcomeOf(flushDevice(upstream));
    expect(await outcome(flushDevice(upstream))).toBe(0);
    expect(disk.stable.subarray(PLACE_BYTES, PLACE_BYTES + 4096).equals(data(2))).toBe(true);
    expect(await outcome(first)).toBe(0);
  });

  it.each([20, 0])(
    'emulate: what a connection has dropped with a flush is not read as it was before while others answer after %i ms',
    async (slowMs) => {
      const { upstream, disk, outcome, clock } = await setUp({ trackDirty: 'connection' });
      await outcome(writeBytes(upstream, 0, data(1)));
      await outcome(writeBytes(upstream, PLACE_BYTES, data(2)));
      const isFlush = (request: BlockRequest): boolean => request.command === Command.Flush;
      let failing = 1;
      disk.options.delayMs = (request, connection) => (!isFlush(request) ? 1 : connection === 1 ? slowMs : 0);
      disk.verdict = (request, connection) =>
        isFlush(request) && connection === 2 && failing-- > 0 ? NbdError.Eio : NbdError.Ok;
      const flushing = outcomeOf(flushDevice(upstream));
      await clock.advance(5);
      const reading = readBytes(upstream, PLACE_BYTES, 4096);
      expect(await outcome(reading)).toBe(0);
      expect((await reading).equals(data(2))).toBe(true);
      expect(await outcome(flushing)).toBe(0);
      expect(disk.stable.subarray(PLACE_BYTES, PLACE_BYTES + 4096).equals(data(2))).toBe(true);
    },
  );

  it('emulate: all connections are needed, and one that is lost is replaced before anything passes', async () => {
    const { upstream, disk, outcome } = await setUp({});
    await outcome(writeBytes(upstream, PLACE_BYTES, data(2)));
    disk.refuse = 3;
    disk.connections[1]?.lose();
    const reading = readBytes(upstream, PLACE_BYTES, 4096);
    await outcome(reading);
    expect((await reading).equals(data(2))).toBe(true);
    expect(upstream.status.connections).toBe(3);
  });

  it('emulate: what is played goes to its own connection, also when another one is lost meanwhile', async () => {
    const { upstream, disk, outcome, clock } = await setUp({});
    const blocks = Array.from({ length: 40 }, (_, at) => PLACE_BYTES + at * 4096);
    for (const at of blocks) await outcome(writeBytes(upstream, at, data(1)));
    disk.connections[0]?.lose();
    await clock.advance(1);
    expect(upstream.status.state).toBe('playing');
    // The one that came in its place: nothing of what is played is bound to it.
    disk.connections.at(-1)?.lose();
    for (const at of blocks) await outcome(writeBytes(upstream, at, data(2)));
    await outcome(flushDevice(upstream));
    expect(disk.stable.subarray(PLACE_BYTES, PLACE_BYTES + 40 * 4096).equals(data(2, 40 * 4096))).toBe(true);
  });

  it('auto keeps to one connection', async () => {
    const { upstream, outcome } = await setUp({ multiConn: 'auto' });
    await outcome(Promise.all(Array.from({ length: 64 }, (_, at) => writeBytes(upstream, at * 4096, data(at + 1)))));
    expect(upstream.status.connections).toBe(1);
  });
});

describe('a pool over an upstream with CAN_MULTI_CONN', () => {
  it('opens more connections only when those there are have enough to do', async () => {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: 1 << 20, delayMs: () => 1 });
    const { upstream, outcome } = await upstreamKit(clock, disk.open, { connections: 3, replayBytes: 1 << 24 });
    await outcome(Promise.all(Array.from({ length: 16 }, (_, at) => writeBytes(upstream, at * 4096, data(1)))));
    expect(upstream.status.connections).toBe(1);
    for (let round = 0; round < 4; round++) {
      await outcome(Promise.all(Array.from({ length: 100 }, (_, at) => writeBytes(upstream, at * 4096, data(1)))));
    }
    expect(upstream.status.connections).toBe(3);
    await outcome(flushDevice(upstream));
    expect(disk.done.filter(({ command }) => command === Command.Flush)).toHaveLength(1);
  });

  it('does with one connection where upstream gives no more', async () => {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: 1 << 20, delayMs: () => 1 });
    const { upstream, outcome } = await upstreamKit(clock, disk.open, { connections: 4, replayBytes: 1 << 24 });
    disk.refuse = Infinity;
    for (let round = 0; round < 10; round++) {
      await outcome(Promise.all(Array.from({ length: 100 }, (_, at) => writeBytes(upstream, at * 4096, data(1)))));
    }
    expect(upstream.status).toMatchObject({ up: true, connections: 1 });
    expect(disk.opened).toBeLessThan(6);
  });
});

describe('keep-alive', () => {
  async function idle(options: Partial<UpstreamOptions>) {
    const clock = new SimClock();
    const disk = new ForgetfulDisk(clock, { sizeBytes: 1 << 20 });
    const kit = await upstreamKit(clock, disk.open, { idleFlushMs: 30_000, ...options });
    return { ...kit, disk };
  }

  it('flushes an idle connection after the idle time, again and again', async () => {
    const { clock, disk } = await idle({});
    await clock.advance(29_000);
    expect(disk.done).toHaveLength(0);
    await clock.advance(120_000);
    expect(disk.done.filter(({ command }) => command === Command.Flush).length).toBeGreaterThanOrEqual(2);
  });

  it('leaves a busy connection alone', async () => {
    const { clock, disk, upstream } = await idle({});
    for (let at = 0; at < 20; at++) {
      await clock.advance(10_000);
      await outcomeOf(readBytes(upstream, 0, 4096));
    }
    expect(disk.done.some(({ command }) => command === Command.Flush)).toBe(false);
  });

  it('leaves what is unflushed to a flush that is counted', async () => {
    const { clock, upstream, told, disk } = await idle({});
    await outcomeOf(writeBytes(upstream, 0, data(1)));
    await clock.advance(60_000);
    expect(told.flushesWanted).toBeGreaterThan(0);
    expect(disk.done.map(({ command }) => command)).toEqual([Command.Write]);
  });

  it('a connection lost meanwhile is opened again quietly; nobody was waiting', async () => {
    const { clock, disk, upstream } = await idle({});
    disk.die();
    await clock.settle();
    expect(upstream.status).toMatchObject({ up: true, reconnects: 1 });
  });

  it('a server that answers that it is shutting down is let go of, and met again when it is back', async () => {
    const clock = new SimClock();
    const device = new ScriptedDevice(1 << 20);
    let opened = 0;
    const open = (): Promise<ScriptedDevice> => {
      opened += 1;
      return opened === 2 ? Promise.reject(new LinkFault('connect-refused', 'nobody there')) : Promise.resolve(device);
    };
    const { upstream } = await upstreamKit(clock, open, { idleFlushMs: 30_000 });
    device.fail(Command.Flush, NbdError.Eshutdown, 1);
    while (!device.seen.includes(Command.Flush)) await clock.advance(1_000);
    expect(device.closes).toBe(1);
    expect(upstream.status.up).toBe(false);
    await clock.advance(60_000);
    expect(upstream.status).toMatchObject({ up: true, reconnects: 1 });
    expect(opened).toBe(3);
    await upstream.close();
  });

  it('stops with the upstream', async () => {
    const { clock, disk, upstream } = await idle({});
    await upstream.close();
    await clock.advance(600_000);
    expect(disk.done).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });
});
