/** What is the same at the hub is not sent; what is not the same always is, whatever the guest does meanwhile. */
import { Command, DeviceError, flushDevice, NbdError, readBytes, writeBytes, zeroRange } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { BlockKind, digestOf, HashedRegion, HashesBuilder } from '@rephub/protocol';
import { describe, expect, it, test } from 'vitest';
import { BLOCK_BYTES, compareBlocks, CompareGauge } from './compare.js';
import { type Answer } from './hash-client.js';
import { ModelHub } from '../testing/model-hub.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const KIB = 1024;
const MIB = KIB * KIB;
const KEY = Buffer.alloc(16, 9);

/** Upstream holds `disk`, the hub `held`, everything is marked, and copies are compared. */
async function compared(kit: VolumeKit, disk: Buffer, held: Buffer, seed: number): Promise<ModelHub> {
  await kit.run(writeBytes(kit.upstream, 0, disk));
  const { mirror, hashes, records } = kit;
  const random = new SeededRandomness(seed);
  const hub = new ModelHub({ clock: kit.platform.clock, random, mirror, hashes, records, content: held });
  kit.comparer.start();
  await kit.run(mirror.copyEverything('test'));
  mirror.wantSpan();
  return hub;
}

function randomDisk(seed: number): Buffer {
  const random = new SeededRandomness(seed);
  const disk = Buffer.alloc(DISK_BYTES);
  for (let at = 0; at < DISK_BYTES; at += 256 * KIB) {
    if (random.fraction() < 0.4) random.bytes(16).copy(disk, at + Math.floor(random.fraction() * 200 * KIB));
  }
  return disk;
}

describe('a span whose copies are compared', () => {
  it('sends only the blocks that differ, and clears the marks of all', async () => {
    const kit = await volumeKit();
    const disk = Buffer.alloc(DISK_BYTES);
    for (let at = 0; at < DISK_BYTES; at += 4096) disk.writeUInt32LE(at + 1, at);
    const held = Buffer.from(disk);
    held.writeUInt8(255, 5 * MIB + 77);
    held.fill(0, 9 * MIB, 9 * MIB + BLOCK_BYTES);
    const hub = await compared(kit, disk, held, 1);
    await kit.platform.clock.runUntil(() => kit.ended.length > 0);
    expect(kit.ended[0]).toMatchObject({
      bytesSent: 2 * BLOCK_BYTES,
      bytesCompared: DISK_BYTES,
      bytesDone: DISK_BYTES,
    });
    expect(hub.at(Infinity).equals(disk)).toBe(true);
    await kit.platform.clock.runUntil(() => kit.tracker.pendingBytes === 0);
    expect(kit.tracker.anyDirty()).toBe(false);
    expect(kit.failures).toEqual([]);
  });

  it('clears marks of equal blocks only when a flush of upstream has covered them (promise CLEAR)', async () => {
    const kit = await volumeKit();
    const disk = Buffer.alloc(DISK_BYTES, 7);
    kit.upstream.fail(Command.Flush, NbdError.Eio);
    await compared(kit, disk, disk, 1);
    await kit.platform.clock.runUntil(() => kit.ended.length > 0);
    await kit.platform.clock.advance(30_000);
    expect(kit.ended[0]?.bytesSent).toBe(0);
    expect(kit.tracker.pendingBytes).toBe(DISK_BYTES);
    kit.upstream.heal();
    await kit.run(flushDevice(kit.volume));
    expect(kit.tracker.pendingBytes).toBe(0);
  });

  it('asks no hub that cannot answer: everything is sent (promise UPGRADE)', async () => {
    const kit = await volumeKit();
    const disk = Buffer.alloc(DISK_BYTES, 7);
    const hub = await compared(kit, disk, disk, 1);
    kit.hashes.linkDown();
    await kit.platform.clock.runUntil(() => kit.ended.length > 0);
    expect(kit.ended[0]).toMatchObject({ bytesSent: DISK_BYTES, bytesCompared: 0 });
    expect(hub.at(Infinity).equals(disk)).toBe(true);
  });

  describe('does not believe an answer from before', () => {
    const disk = Buffer.alloc(DISK_BYTES, 7);
    const back = disk.subarray(0, 4096);

    /** The hub has been asked about everything and has not answered; then one block is written with 5, as a record. */
    async function asked(windowBytes = 8 * MIB): Promise<{ kit: VolumeKit; hub: ModelHub }> {
      const kit = await volumeKit({ windowBytes });
      kit.upstream.failsAfterwards = true;
      const held = Buffer.from(disk);
      const starting = compared(kit, disk, held, 3);
      const hub = await starting;
      hub.hold();
      await kit.platform.clock.runUntil(() => hub.asked.length > 0);
      await kit.run(writeBytes(kit.volume, 8 * KIB, Buffer.alloc(4096, 5)));
      return { kit, hub };
    }

    async function expectEqual(kit: VolumeKit, hub: ModelHub): Promise<void> {
      hub.letGo();
      // As the group does every second: a span after one that was outrun waits a little.
      kit.platform.clock.after(1000, () => {
        kit.mirror.wantSpan();
      });
      await kit.platform.clock.runUntil(() => kit.mirror.state === 'streaming' && !kit.tracker.anyDirty());
      const upstream = await kit.run(readBytes(kit.upstream, 0, DISK_BYTES));
      expect(upstream.subarray(8 * KIB, 12 * KIB).equals(back)).toBe(true);
      expect(hub.at(Infinity).equals(upstream)).toBe(true);
    }

    it('a write whose fate is unknown, which put back what the hub had', async () => {
      const { kit, hub } = await asked();
      kit.upstream.fail(Command.Write, NbdError.Eio, 1);
      await kit.run(writeBytes(kit.volume, 8 * KIB, back).catch(() => undefined));
      await expectEqual(kit, hub);
    });

    it('a write that was only marked, which put back what the hub had', async () => {
      const { kit, hub } = await asked(MIB);
      for (let at = 0; kit.mirror.state === 'span'; at++) {
        await kit.run(writeBytes(kit.volume, MIB + at * 128 * KIB, Buffer.alloc(128 * KIB, 7)));
      }
      await kit.run(writeBytes(kit.volume, 8 * KIB, back));
      await expectEqual(kit, hub);
    });

    it('a hub that came back without what it had', async () => {
      const { kit, hub } = await asked();
      await kit.run(writeBytes(kit.volume, 8 * KIB, back));
      const before = kit.mirror.lastNumber;
      kit.mirror.restartAfter(0, before + 1);
      await kit.run(kit.mirror.copyEverything('the hub is older'));
      hub.forget();
      await expectEqual(kit, hub);
    });
  });

  it('never takes for equal what a write meanwhile has made different, streamed, lost or unknown (random, seeded)', async () => {
    for (let seed = 1; seed <= 16; seed++) {
      const kit = await volumeKit({ windowBytes: seed % 3 === 0 ? MIB : 8 * MIB });
      const { clock } = kit.platform;
      const random = new SeededRandomness(seed);
      const below = (limit: number): number => Math.floor(random.fraction() * limit);
      const disk = randomDisk(seed);
      const held = Buffer.from(disk);
      for (let spoiled = 0; spoiled < 8; spoiled++) held.writeUInt8(below(255) + 1, below(DISK_BYTES));
      kit.upstream.failsAfterwards = true;
      const hub = await compared(kit, disk, held, seed);
      kit.upstream.later = (run) => {
        clock.after(random.fraction() ** 3 * 15, run);
      };
      const writes: Promise<void>[] = [];
      // Few places and few values, so that content goes back to what it was.
      for (let step = 0; step < 150; step++) {
        const offset = below(24) * 8 * KIB + below(4) * 4 * MIB;
        if (below(12) === 0) kit.upstream.fail(Command.Write, NbdError.Eio, 1);
        const value = below(3);
        const write =
          below(6) === 0
            ? zeroRange(kit.volume, offset, 8 * KIB)
            : writeBytes(
                kit.volume,
                offset,
                value === 2 ? held.subarray(offset, offset + 4 * KIB) : Buffer.alloc(4 * KIB, value),
              );
        writes.push(
          write.catch((error: unknown) => {
            if (!(error instanceof DeviceError)) throw error;
          }),
        );
        await clock.advance(below(4));
      }
      await kit.run(Promise.all(writes).then(() => undefined));
      kit.upstream.heal();
      await clock.runUntil(() => kit.mirror.state === 'streaming' && !kit.tracker.anyDirty(), 600_000);
      kit.upstream.later = null;
      const upstream = await kit.run(readBytes(kit.upstream, 0, DISK_BYTES));
      const replica = hub.at(Infinity);
      expect(kit.failures, `seed ${seed}`).toEqual([]);
      expect(hub.asked.length, `seed ${seed}`).toBeGreaterThan(0);
      if (!replica.equals(upstream)) {
        const at = replica.findIndex((byte, index) => byte !== upstream[index]);
        throw new Error(`seed ${seed}: byte ${at} is ${replica[at]} at the hub, ${upstream[at]} upstream`);
      }
    }
  });
});

/** An answer over blocks of these contents. */
function answerOver(blocks: readonly (Buffer | 'unreadable')[], blockBytes: number, covered?: number): Answer {
  const builder = new HashesBuilder(blockBytes);
  for (const block of blocks) {
    if (block === 'unreadable') builder.add(BlockKind.Unreadable, blockBytes);
    else if (block.every((byte) => byte === 0)) builder.add(BlockKind.Zero, block.length);
    else builder.add(BlockKind.Data, block.length, digestOf(KEY, [block]));
  }
  const length = covered ?? builder.covered;
  return { region: new HashedRegion({ length, blockBytes }, builder.build()), key: KEY };
}

describe('comparing blocks', () => {
  const block = (fill: number): Buffer => Buffer.alloc(4096, fill);

  test('finds runs of the same, of what differs and of what cannot be told', () => {
    const slices = [block(1), Buffer.alloc(2048), Buffer.alloc(2048), block(3), block(4), block(0), block(6)];
    const answer = answerOver([block(1), block(0), block(3), block(9), block(5), 'unreadable'], 4096);
    expect(compareBlocks(slices, answer)).toEqual([
      { from: 0, to: 12_288, verdict: 'same' },
      { from: 12_288, to: 20_480, verdict: 'differs' },
      { from: 20_480, to: 24_576, verdict: 'unknown' },
    ]);
  });

  test('counts what the answer does not speak of as unknown', () => {
    expect(compareBlocks([block(1), block(1)], answerOver([block(1)], 4096, 8192))).toEqual([
      { from: 0, to: 4096, verdict: 'same' },
      { from: 4096, to: 8192, verdict: 'unknown' },
    ]);
  });

  test('data where the hub has zeroes differs, and zeroes where it has data', () => {
    expect(compareBlocks([block(1), block(0)], answerOver([block(0), block(1)], 4096))).toEqual([
      { from: 0, to: 8192, verdict: 'differs' },
    ]);
  });
});

describe('the gauge', () => {
  test('asks about everything as long as a good tenth is the same', () => {
    const gauge = new CompareGauge();
    for (let region = 0; region < 200; region++) {
      expect(gauge.worthwhile()).toBe(true);
      gauge.found(region % 5 === 0 ? MIB : 0, region % 5 === 0 ? 0 : MIB);
    }
  });

  test('asks only now and then where nearly all differs, and about everything again once that has changed', () => {
    const gauge = new CompareGauge();
    const ask = (regions: number, same: boolean): number => {
      let asked = 0;
      for (let region = 0; region < regions; region++) {
        if (!gauge.worthwhile()) continue;
        asked++;
        gauge.found(same ? MIB : 0, same ? 0 : MIB);
      }
      return asked;
    };
    expect(ask(1000, false)).toBeLessThan(100);
    expect(ask(1000, true)).toBeGreaterThan(900);
  });
});
