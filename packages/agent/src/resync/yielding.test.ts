/** What is read in the background gives way to guests as far as they notice it, on whichever volume they are; and it ends. */
import { Command } from '@rephub/nbd';
import { SeededRandomness } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { type DiskSpeed, QueuedDisk, RandomGuest } from '../testing/queued-disk.js';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const MIB = 1024 * 1024;
/** As of one that turns: 2 ms for each request, and 100 MB/s. */
const TURNING: DiskSpeed = { requestMs: 2, bytesPerMs: 100_000 };

interface Rig {
  readonly kit: VolumeKit;
  readonly disk: QueuedDisk;
  /** Copies all of the first volume; resolves to how long that took. */
  readonly copy: () => Promise<number>;
}

/** Two volumes on one disk; holes are not told, so that everything is read. */
async function rig(copiedBytes: number, speed = TURNING): Promise<Rig> {
  const noHoles = { contexts: [] };
  const kit = await volumeKit({
    windowBytes: 256 * MIB,
    disk: new ScriptedDevice(copiedBytes, noHoles),
    others: [new ScriptedDevice(64 * MIB, noHoles)],
  });
  const { clock } = kit.platform;
  const disk = new QueuedDisk(clock, speed);
  disk.carry(kit.upstream);
  const [, second] = kit.devices;
  if (second !== undefined) disk.carry(second);
  const copy = async (): Promise<number> => {
    const before = kit.ended.length;
    const begunMs = clock.monotonicMs();
    kit.mirror.unknown(0, 0, copiedBytes);
    kit.mirror.wantSpan();
    await clock.runUntil(() => kit.ended.length > before, 24 * 3_600_000);
    return clock.monotonicMs() - begunMs;
  };
  return { kit, disk, copy };
}

function guestOn({ kit }: Rig, volume: 0 | 1, perSecond: number): RandomGuest {
  const device = kit.volumes[volume];
  if (device === undefined) throw new Error('no such volume');
  return new RandomGuest(kit.platform.clock, device, new SeededRandomness(5), perSecond);
}

test.each([0, 1] as const)(
  'a guest on volume %i of the disk that is copied: its p99 at most doubles',
  async (volume) => {
    const system = await rig(768 * MIB);
    const guest = guestOn(system, volume, 50);
    await system.kit.platform.clock.advance(20_000);
    const alone = guest.p99();
    const before = guest.tookMs.length;
    const tookMs = await system.copy();
    expect(guest.tookMs.length - before).toBeGreaterThan(500);
    expect(guest.p99(before)).toBeLessThan(2 * alone);
    // Nor does it wait for longer than that takes: a quarter of what the disk can do is left for it.
    expect(tookMs).toBeLessThan(4 * system.disk.busyMs);
  },
);

test('an idle guest: the disk is never without a request, 2 MiB of them', async () => {
  const { disk, kit, copy } = await rig(64 * MIB);
  const tookMs = await copy();
  const pieces = kit.upstream.seen.filter((command) => command === Command.Read).length;
  expect([pieces, disk.mostReads]).toEqual([64, 2]);
  expect(tookMs - disk.busyMs).toBeLessThan(1);
});

test('a guest that asks for nothing any more: full speed within a second', async () => {
  const system = await rig(256 * MIB);
  const { clock } = system.kit.platform;
  const guest = guestOn(system, 1, 200);
  await clock.advance(5_000);
  clock.after(3_000, () => {
    guest.stop();
  });
  const begunMs = clock.monotonicMs();
  let atRestBytes = 0;
  clock.after(4_000, () => (atRestBytes = system.kit.tracker.dirtyBytes));
  await system.copy();
  const restMs = clock.monotonicMs() - begunMs - 4_000;
  expect(atRestBytes).toBeGreaterThan(100 * MIB);
  // 12.5 ms for each MiB.
  expect(restMs).toBeLessThan((atRestBytes / MIB) * 13);
});

test('a guest that is slow for good: the resync ends', async () => {
  const system = await rig(32 * MIB);
  const { kit } = system;
  const { clock } = kit.platform;
  const guest = guestOn(system, 1, 50);
  await clock.advance(10_000);
  const other = kit.devices[1];
  if (other === undefined) throw new Error('no such volume');
  other.later = (run) => clock.after(2_000, run);
  const tookMs = await system.copy();
  expect(guest.tookMs.at(-1)).toBeGreaterThanOrEqual(2_000);
  // As slow as may be, from the start: a sixteenth of the time, less an eighth for looks. A piece of 256 KiB takes 4.6 ms.
  expect(tookMs).toBeGreaterThan(128 * 4.6 * 4);
  expect(tookMs).toBeLessThan(128 * 4.7 * 16 * (8 / 7) + 1_000);
});
