import { BlockRequest, Command, CommandFlag, flushDevice, NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { silentLogger, sleep } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { Acknowledgement } from '../mirror/acknowledgement.js';
import { FreezeGate } from '../mirror/freeze-gate.js';
import { GuestLatency, type KindLatency, type VolumeLatency } from './guest-latency.js';
import { withRange } from '../range-lock.js';
import { type VolumeKit, volumeKit } from '../testing/volume-kit.js';

function one(latency: GuestLatency): VolumeLatency {
  return latency.addVolume('disk0');
}

/** A request from then to then. */
function pass(volume: VolumeLatency, fromMs: number, toMs: number, command: Command = Command.Read, flags = 0): void {
  const request = new BlockRequest({ completed: () => undefined });
  request.command = command;
  request.flags = flags;
  volume.began(fromMs);
  volume.ended(request, fromMs, toMs, true);
}

function counts({ kinds }: VolumeLatency): Record<string, readonly [alone: number, beside: number]> {
  const count = ({ kind, alone, beside }: KindLatency) => [kind, [alone.total, beside.total]] as const;
  return Object.fromEntries(kinds.map(count));
}

describe('GuestLatency', () => {
  it('counts as alone what is submitted while nothing is read, however long it takes', () => {
    const latency = new GuestLatency();
    const volume = one(latency);
    pass(volume, 10, 20);
    latency.readBegins(100);
    // Submitted before the read began, and answered after it.
    pass(volume, 90, 500);
    pass(volume, 100, 101);
    expect(counts(volume)['read']).toEqual([2, 1]);
  });

  it('takes the time after a read for quiet only when a second has passed', () => {
    const latency = new GuestLatency();
    const volume = one(latency);
    latency.readBegins(100);
    latency.nothingIsRead(200);
    pass(volume, 300, 310);
    pass(volume, 1_200, 1_210);
    expect(counts(volume)['read']).toEqual([1, 1]);
    // It stays quiet for those who were submitted then.
    latency.readBegins(1_300);
    pass(volume, 1_299, 1_400);
    pass(volume, 1_199, 1_400);
    pass(volume, 1_300, 1_400);
    expect(counts(volume)['read']).toEqual([2, 3]);
  });

  it('believes who sees to it that nothing is read, and stops when something is', () => {
    const latency = new GuestLatency();
    const volume = one(latency);
    latency.readBegins(0);
    latency.nothingIsRead(1_000);
    latency.setAlone(1_050, 1_200);
    pass(volume, 1_040, 1_060);
    pass(volume, 1_060, 1_300);
    latency.readBegins(1_100);
    pass(volume, 1_110, 1_130);
    expect(counts(volume)['read']).toEqual([1, 2]);
  });

  it('tells reads, writes and flushes apart, and takes FUA for a flush', () => {
    const volume = one(new GuestLatency());
    pass(volume, 0, 1, Command.Cache);
    for (const command of [Command.Write, Command.Trim, Command.WriteZeroes]) pass(volume, 0, 1, command);
    pass(volume, 0, 1, Command.Flush);
    pass(volume, 0, 1, Command.Write, CommandFlag.Fua);
    expect(counts(volume)).toEqual({ read: [1, 0], write: [3, 0], flush: [2, 0] });
  });

  it('does not count what failed, or had to wait for a connection; it is in flight until then', () => {
    const latency = new GuestLatency();
    const volume = one(latency);
    volume.began(5);
    expect([volume.inFlight, volume.progressMs, latency.isIdle(1_000, 10)]).toEqual([1, 5, false]);
    volume.ended(new BlockRequest({ completed: () => undefined }), 5, 900, false);
    expect([volume.inFlight, volume.progressMs, latency.isIdle(909, 10), latency.isIdle(910, 10)]).toEqual([
      ...[0, 900],
      ...[false, true],
    ]);
    expect(counts(volume)).toEqual({ read: [0, 0], write: [0, 0], flush: [0, 0] });
  });

  it('lets older requests count less and less', () => {
    const volume = one(new GuestLatency());
    for (let at = 0; at < 50_000; at++) pass(volume, at, at + (at < 30_000 ? 100 : 1));
    const { alone } = volume.kinds[0]!;
    expect(alone.total).toBeLessThan(8_193);
    expect(alone.quantile(0.9)).toBeLessThan(2);
  });
});

/** What was noted of each kind: how many, and what the longest took. */
function noted({ latency }: VolumeKit): Record<string, readonly [count: number, longestMs: number]> {
  const kinds = latency.volumes.flatMap((volume) => volume.kinds);
  return Object.fromEntries(
    kinds.map(({ kind, alone }) => [kind, [alone.total, Math.round(alone.quantile(1))]] as const),
  );
}

/** Upstream takes so long. */
async function slow(making: Promise<VolumeKit>, ms: number): Promise<VolumeKit> {
  const kit = await making;
  // No request is submitted at the beginning of time.
  await kit.platform.clock.advance(1);
  kit.upstream.later = (run) => kit.platform.clock.after(ms, run);
  return kit;
}

describe("the latency of a guest's requests", () => {
  const block = Buffer.alloc(4096, 1);

  it('is from its submission to the answer of upstream', async () => {
    const kit = await slow(volumeKit(), 100);
    await kit.run(readBytes(kit.volume, 0, 4096));
    await kit.run(writeBytes(kit.volume, 0, block));
    await kit.run(flushDevice(kit.volume));
    expect(noted(kit)).toEqual({ read: [1, 106], write: [1, 106], flush: [1, 106] });
    expect(kit.latency.volumes[0]!.inFlight).toBe(0);
  });

  it('holds what it waited for a copy that has the range', async () => {
    const kit = await slow(volumeKit(), 100);
    const { clock } = kit.platform;
    const held = withRange(kit.volume.lock, 0, 65_536, () => sleep(clock, 300));
    await kit.run(writeBytes(kit.volume, 4096, block));
    await kit.run(held);
    expect(noted(kit)['write']).toEqual([1, 426]);
  });

  it('holds nothing of what a synchronous mode waits for: a hub that is slow makes no disk slow', async () => {
    const acknowledgement = new Acknowledgement({
      ...{ clock: new SimClock(), log: silentLogger, mode: 'sync', stored: 'sync', onDisconnect: 'freeze' },
      ...{ store: () => new Promise<void>(() => undefined), lastNumber: () => 0, hurry: () => undefined },
    });
    const kit = await slow(volumeKit({ waitsFor: { acknowledgement } }), 100);
    void writeBytes(kit.volume, 0, block);
    await kit.platform.clock.advance(60_000);
    expect(acknowledgement.waiting).toBe(1);
    expect(noted(kit)['write']).toEqual([1, 106]);
    expect(kit.latency.isIdle(kit.platform.clock.monotonicMs(), 1_000)).toBe(true);
  });

  it('is not measured where it waited for the hub before it went upstream', async () => {
    const hub = { isAway: true };
    const freeze = new FreezeGate(() => hub.isAway);
    const kit = await slow(volumeKit({ waitsFor: { freeze } }), 100);
    const writing = writeBytes(kit.volume, 0, block);
    await kit.platform.clock.advance(60_000);
    hub.isAway = false;
    freeze.changed();
    await kit.run(writing);
    expect(noted(kit)['write']).toEqual([0, 0]);
    await kit.run(writeBytes(kit.volume, 0, block));
    expect(noted(kit)['write']).toEqual([1, 106]);
  });

  it('is not measured where upstream failed it, or it was repeated', async () => {
    const kit = await slow(volumeKit({ policy: { retries: 1, delayMs: 1_000, exponential: false } }), 100);
    kit.upstream.fail(Command.Read, NbdError.Einval, 1);
    await kit.run(readBytes(kit.volume, 0, 4096).catch(() => undefined));
    kit.upstream.fail(Command.Read, NbdError.Eio, 1);
    await kit.run(readBytes(kit.volume, 0, 4096));
    expect(noted(kit)['read']).toEqual([0, 0]);
    expect(kit.latency.volumes[0]!.inFlight).toBe(0);
  });

  it('is of guests alone: what the agent reads and flushes itself is not measured', async () => {
    const kit = await slow(volumeKit(), 100);
    await kit.run(readBytes(kit.volume.reader, 0, 4096));
    await kit.run(flushDevice(kit.volume.upstream));
    expect(noted(kit)).toEqual({ read: [0, 0], write: [0, 0], flush: [0, 0] });
    expect(kit.latency.isIdle(kit.platform.clock.monotonicMs(), 1_000)).toBe(true);
  });
});
