// BOUND: clients that stop halfway through a write's payload hold no more than one budget, all together.
import { DEFAULT_PAYLOAD_LIMITS, Fault, PayloadBudget } from '@rephub/platform';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  connectNbd,
  fixedExports,
  memoryDevice,
  NbdServer,
  readBytes,
  type ServerFault,
  writeBytes,
} from '../index.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { memoryNetwork } from '../testing/memory-network.js';
import { RawPeer, request, u32 } from '../testing/raw-peer.js';
import { ADDRESS, infoOption } from '../testing/server-meeting.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const CHUNK_BYTES = 64 * KIB;
const { largeBudgetBytes, smallBudgetBytes } = DEFAULT_PAYLOAD_LIMITS;

/** A simple reply without an error begins so. */
const ANSWERED = Buffer.concat([u32(0x67446698), u32(0)]);

const inChunks = (bytes: Buffer): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / CHUNK_BYTES) }, (_, index) =>
    bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
  );

let clock: ManualClock;
let network: ReturnType<typeof memoryNetwork>;
let payloads: PayloadBudget;
let server: NbdServer;
let faults: ServerFault[];

beforeEach(async () => {
  clock = new ManualClock();
  network = memoryNetwork(inChunks);
  payloads = new PayloadBudget(clock);
  faults = [];
  server = new NbdServer({
    platform: { clock, network },
    exports: fixedExports(new Map([['disk', memoryDevice(64 * MIB)]])),
    payloads,
    onFault: (fault) => faults.push(fault),
  });
  await server.listen(ADDRESS);
});

afterEach(async () => {
  const closed = server.close(0);
  clock.advance(5000);
  await closed;
});

/** A client that begins to write `bytes` and stops after half of them. */
async function stopsHalfway(bytes: number): Promise<RawPeer> {
  const peer = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
  peer.send(u32(3), infoOption(7, 'disk', 3));
  await settle();
  peer.send(request(1, 1, 0, bytes), Buffer.alloc(bytes / 2, 1));
  await settle();
  return peer;
}

/** What the server has not read of what these have sent. */
function unreadBytes(peers: readonly RawPeer[]): number {
  return peers.reduce((sum, { connection }) => sum + connection.queuedBytes, 0);
}

async function many(count: number, bytes: number): Promise<RawPeer[]> {
  const peers: RawPeer[] = [];
  while (peers.length < count) peers.push(await stopsHalfway(bytes));
  return peers;
}

describe('clients that stop in the middle of a payload', () => {
  it('are not read beyond the budget, however many they are', async () => {
    const peers = await many(12, 16 * MIB);
    expect(payloads.usedBytes).toBe(largeBudgetBytes);
    expect(unreadBytes(peers)).toBeGreaterThanOrEqual(12 * 8 * MIB - largeBudgetBytes - 12 * CHUNK_BYTES);
    expect(faults).toEqual([]);
  });

  it('hold up nobody whose writes are small, and large ones only until the first of them is overdue', async () => {
    const peers = await many(5, 16 * MIB);
    const client = await connectNbd({ clock, network }, 'nbd://here:1/disk');
    await writeBytes(client, 0, Buffer.alloc(256 * KIB, 2));
    expect((await readBytes(client, 256 * KIB - 1, 1))[0]).toBe(2);
    let written = 0;
    const writing = writeBytes(client, MIB, Buffer.alloc(2 * MIB, 3)).then(() => (written += 1));
    await settle();
    expect(written).toBe(0);
    for (let second = 0; second < 30 && written === 0; second += 1) {
      clock.advance(1000);
      await settle();
    }
    await writing;
    expect((await readBytes(client, 3 * MIB - 1, 1))[0]).toBe(3);
    expect(new Set(faults.map(({ code }) => code))).toEqual(new Set(['payload-stalled']));
    expect(faults[0]?.message).toMatch(/^of a payload of 16777216 bytes \d+ have come, none for 5 s, and others wait$/);
    // Those that are left fit, and are left alone.
    const left = server.clients().length;
    clock.advance(3_600_000);
    await settle();
    expect(server.clients()).toHaveLength(left);
    expect(peers.filter(({ isClosed }) => !isClosed)).toHaveLength(left - 1);
    expect(unreadBytes(peers.filter(({ isClosed }) => !isClosed))).toBe(0);
    client.destroy(new Fault('link', 'done', 'done with'));
  });

  it('hold a budget of their own where their payloads are small', async () => {
    const peers = await many(100, 256 * KIB);
    expect(payloads.usedBytes).toBe(smallBudgetBytes);
    const client = await connectNbd({ clock, network }, 'nbd://here:1/disk');
    await writeBytes(client, 0, Buffer.alloc(8 * KIB, 2));
    await writeBytes(client, 0, Buffer.alloc(2 * MIB, 2));
    expect(unreadBytes(peers)).toBeGreaterThan(0);
    client.destroy(new Fault('link', 'done', 'done with'));
  });

  it('that go on are served, one after the other, each with what it wrote', async () => {
    const peers = await many(6, 16 * MIB);
    for (const peer of peers) peer.take();
    for (const peer of peers) peer.send(Buffer.alloc(8 * MIB, 1));
    for (let turn = 0; turn < 20; turn += 1) await settle();
    expect(peers.map((peer) => peer.take().subarray(0, 8))).toEqual(peers.map(() => ANSWERED));
    expect([payloads.usedBytes, payloads.waiting, faults.length]).toEqual([0, 0, 0]);
  });

  it.each(['ends', 'vanishes', 'is closed by the server'])(
    'and wait: one that %s leaves nothing claimed',
    async (how) => {
      const peers = await many(4, 16 * MIB);
      if (how === 'ends') for (const peer of peers) peer.connection.end();
      if (how === 'vanishes') for (const peer of peers) peer.connection.destroy();
      if (how === 'is closed by the server') {
        const closed = server.close(1000);
        clock.advance(5000);
        await settle();
        await closed;
      }
      for (let turn = 0; turn < 20; turn += 1) await settle();
      expect([payloads.usedBytes, payloads.waiting]).toEqual([0, 0]);
      expect(server.clients()).toEqual([]);
    },
  );
});
