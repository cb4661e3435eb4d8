/** What a volume's flushes prove is that volume's: no other waits for it (promise CLEAR). */
import { Command, NbdError, writeBytes } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const MIB = 1024 * 1024;

/** Each volume has one write in an extent of its own; the hub has both durably. */
async function written(kit: VolumeKit): Promise<void> {
  for (const volume of kit.volumes) {
    await kit.run(writeBytes(volume, 4 * MIB, Buffer.alloc(4096, 7)));
  }
  kit.mirror.acknowledged(kit.mirror.lastNumber, kit.mirror.lastNumber);
}

const markedBytes = (kit: VolumeKit, index: number): number =>
  [...kit.tracker.runs(index)].reduce((sum, { length }) => sum + length, 0);

describe('the agent’s own flushes', () => {
  it('leave the marks of a volume that cannot flush, and of no other', async () => {
    const kit = await volumeKit({ others: [new ScriptedDevice(DISK_BYTES, { flush: false })] });
    await written(kit);
    await kit.run(kit.flusher.settle());
    expect(markedBytes(kit, 0)).toBe(0);
    expect(markedBytes(kit, 1)).toBeGreaterThan(0);
    expect(kit.tracker.hotExtents).toBe(0);
    // It was asked for, and is over: the next one is asked for as well.
    await kit.run(writeBytes(kit.volume, 8 * MIB, Buffer.alloc(4096, 7)));
    kit.mirror.acknowledged(kit.mirror.lastNumber, kit.mirror.lastNumber);
    await kit.run(kit.tracker.coolIdle());
    await kit.run(kit.tracker.coolIdle());
    expect(markedBytes(kit, 0)).toBe(0);
  });

  it('do not wait for a volume whose upstream does not answer', async () => {
    const away = new ScriptedDevice(DISK_BYTES);
    const kit = await volumeKit({ disk: away, others: [new ScriptedDevice(DISK_BYTES)] });
    await written(kit);
    away.holding = true;
    await kit.run(kit.flusher.settle());
    expect(markedBytes(kit, 0)).toBeGreaterThan(0);
    expect(markedBytes(kit, 1)).toBe(0);
    expect(kit.tracker.hotExtents).toBe(0);
    away.letGo();
    await kit.run(kit.flusher.settle());
    expect(markedBytes(kit, 0)).toBe(0);
  });

  it('are made of the others where one of them fails, and of that one again', async () => {
    const failing = new ScriptedDevice(DISK_BYTES);
    const kit = await volumeKit({ disk: failing, others: [new ScriptedDevice(DISK_BYTES)] });
    await written(kit);
    failing.fail(Command.Flush, NbdError.Eio);
    kit.flusher.want();
    await kit.platform.clock.advance(1000);
    await kit.run(kit.tracker.coolIdle());
    expect(markedBytes(kit, 0)).toBeGreaterThan(0);
    expect(markedBytes(kit, 1)).toBe(0);
    await expect(kit.run(kit.flusher.flushAll())).rejects.toMatchObject({ nbdError: NbdError.Eio });
    failing.heal();
    await kit.run(kit.flusher.settle());
    expect(markedBytes(kit, 0)).toBe(0);
  });
});
