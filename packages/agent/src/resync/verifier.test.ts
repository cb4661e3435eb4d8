/** Online verification: what is equal is found equal while the guest writes, what is not is reported before it is repaired. */
import { Command, DeviceError, NbdError, writeBytes, zeroRange } from '@rephub/nbd';
import { silentLogger } from '@rephub/platform';
import { SeededRandomness } from '@rephub/platform/sim';
import { FrameType, outcomeOf, type VerifyReport } from '@rephub/protocol';
import { describe, expect, it, test } from 'vitest';
import { BLOCK_BYTES } from './compare.js';
import { Findings } from './findings.js';
import { Marks } from '../mirror/marks.js';
import { Pace } from './pace.js';
import { ModelHub } from '../testing/model-hub.js';
import { QueuedDisk } from '../testing/queued-disk.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';
import { Verifier } from './verifier.js';
import { VerifyTally } from './verify-tally.js';

const KIB = 1024;
const MIB = KIB * KIB;

interface Verified {
  readonly kit: VolumeKit;
  readonly hub: ModelHub;
  readonly verifier: Verifier;
  readonly findings: Findings;
  /** What the hub was told, with the records that it had by then. */
  readonly told: { readonly report: VerifyReport | null; readonly records: number }[];
  readonly causes: string[];
  /** Why the hub takes nothing. */
  readonly stall: { why: string | null };
  readonly verify: () => Promise<VerifyReport>;
}

async function prepared(disk: Buffer, held: Buffer, seed = 1, rate: number | null = null): Promise<Verified> {
  const kit = await volumeKit();
  const { clock } = kit.platform;
  await kit.run(writeBytes(kit.upstream, 0, disk));
  const { mirror, hashes, records, tracker, volume } = kit;
  const random = new SeededRandomness(seed);
  const hub = new ModelHub({ clock, random, mirror, hashes, records, content: held });
  const told: Verified['told'] = [];
  const causes: string[] = [];
  const stall: Verified['stall'] = { why: null };
  const findings = new Findings(tracker, silentLogger, () => clock.monotonicMs());
  const verifier: Verifier = new Verifier({
    clock,
    randomness: kit.platform.randomness,
    log: silentLogger,
    volumes: [volume],
    tracker,
    marks: new Marks(tracker, clock, silentLogger, () => undefined),
    mirror,
    hashes,
    pace: new Pace(clock, rate),
    reads: kit.reads,
    stalled: () => stall.why,
    found: (report) => findings.keep(report),
    tell: () => told.push({ report: verifier.report, records: records.length }),
    noteCause: (cause) => causes.push(cause),
  });
  const verify = async (): Promise<VerifyReport> => {
    const id = verifier.start(null, 'test');
    const isOver = (): boolean => verifier.report?.id === id && verifier.report.finishedAt !== null;
    await clock.runUntil(isOver, 600_000);
    if (verifier.report === null) throw new Error('no report');
    return verifier.report;
  };
  return { kit, hub, verifier, findings, told, causes, stall, verify };
}

const filled = (fill: number): Buffer => Buffer.alloc(DISK_BYTES, fill);

describe('a verification', () => {
  it('finds equal disks to be the same, holes and data', async () => {
    const disk = filled(0);
    disk.fill(9, 3 * MIB + 5000, 7 * MIB);
    const { verify, causes, verifier } = await prepared(disk, Buffer.from(disk));
    const report = await verify();
    expect(outcomeOf(report)).toBe('same');
    expect(report).toMatchObject({ bytesTotal: DISK_BYTES, bytesSame: DISK_BYTES, differs: [], reason: null });
    expect(causes).toEqual([]);
    expect(verifier.counters.verifiedBytes).toBe(DISK_BYTES);
  });

  it('reports what differs, marks it durably, and only then lets a resync repair it', async () => {
    const held = filled(7);
    held.writeUInt8(8, 5 * MIB + 100);
    held.writeUInt8(0, DISK_BYTES - 1);
    const { kit, hub, told, causes, verify } = await prepared(filled(7), held);
    const report = await verify();
    expect(outcomeOf(report)).toBe('differs');
    expect(report.bytesDiffer).toBe(2 * BLOCK_BYTES);
    expect([...report.differs].sort((one, other) => one.offset - other.offset)).toEqual([
      { volume: 'disk0', offset: 5 * MIB, length: BLOCK_BYTES },
      { volume: 'disk0', offset: DISK_BYTES - BLOCK_BYTES, length: BLOCK_BYTES },
    ]);
    // The hub was told of a difference before any record of its repair was made.
    expect(told[0]?.report?.bytesDiffer).toBeGreaterThan(0);
    expect(told[0]?.records).toBe(0);
    expect(causes[0]).toMatch(/^verify: volume disk0 differs/);
    await kit.platform.clock.runUntil(() => kit.mirror.state === 'streaming' && !kit.tracker.anyDirty());
    expect(hub.at(Infinity).equals(filled(7))).toBe(true);
    expect(outcomeOf(await verify())).toBe('same');
  });

  it('ends, and could not tell, when the hub answers nothing, and begins anew with the next one', async () => {
    const { kit, hub, stall, verify } = await prepared(filled(7), filled(7));
    const { clock } = kit.platform;
    hub.hold();
    const begunMs = clock.monotonicMs();
    const report = await verify();
    expect(outcomeOf(report)).toBe('could-not-tell');
    expect(report.reason).toBe('the hub did not answer in 30 seconds');
    expect(clock.monotonicMs() - begunMs).toBeLessThan(61_000);
    stall.why = 'disk-full';
    const stalledMs = clock.monotonicMs();
    expect((await verify()).reason).toBe('the hub takes nothing: disk-full');
    expect(clock.monotonicMs() - stalledMs).toBeLessThan(16_000);
    stall.why = null;
    hub.letGo();
    await clock.advance(5000);
    expect(outcomeOf(await verify())).toBe('same');
  });

  it('reads one small piece at a time while a guest is at work on any volume, and four at once otherwise', async () => {
    const { kit, verify } = await prepared(filled(7), filled(7));
    const disk = new QueuedDisk(kit.platform.clock, { requestMs: 5, bytesPerMs: 1e6 });
    disk.carry(kit.upstream);
    const reads = (): number => kit.upstream.seen.filter((command) => command === Command.Read).length;
    expect(outcomeOf(await verify())).toBe('same');
    expect([reads(), disk.mostReads]).toEqual([16, 4]);
    // Its request does not come back; how long it takes alone nobody knows.
    kit.latency.addVolume('another').began(kit.platform.clock.monotonicMs());
    disk.mostReads = 0;
    expect(outcomeOf(await verify())).toBe('same');
    expect([reads() - 16, disk.mostReads]).toEqual([64, 1]);
  });

  it('finds data at the hub where upstream has a hole', async () => {
    const held = filled(0);
    held.writeUInt8(1, 9 * MIB);
    const { verify } = await prepared(filled(0), held);
    expect(await verify()).toMatchObject({
      bytesDiffer: BLOCK_BYTES,
      differs: [{ volume: 'disk0', offset: 9 * MIB, length: BLOCK_BYTES }],
    });
  });

  it('never takes a write in flight for a difference (random, seeded)', async () => {
    for (let seed = 1; seed <= 6; seed++) {
      const random = new SeededRandomness(seed);
      const below = (limit: number): number => Math.floor(random.fraction() * limit);
      const { kit, hub, verifier } = await prepared(filled(3), filled(3), seed, 64 * MIB);
      const { clock } = kit.platform;
      kit.upstream.later = (run) => {
        clock.after(random.fraction() ** 3 * 20, run);
      };
      verifier.start(null, 'test');
      const writes: Promise<void>[] = [];
      for (let step = 0; step < 150; step++) {
        const offset = below(DISK_BYTES / KIB - 64) * KIB;
        if (below(30) === 0) kit.upstream.fail(Command.Write, NbdError.Eio, 1);
        const length = (1 + below(64)) * KIB;
        const write =
          below(5) === 0
            ? zeroRange(kit.volume, offset, length)
            : writeBytes(kit.volume, offset, Buffer.alloc(length, step));
        writes.push(
          write.catch((error: unknown) => {
            if (!(error instanceof DeviceError)) throw error;
          }),
        );
        await clock.advance(below(5));
      }
      kit.upstream.heal();
      await kit.run(Promise.all(writes).then(() => undefined));
      await clock.runUntil(() => verifier.report?.finishedAt !== null, 600_000);
      expect(verifier.report, `seed ${seed}`).toMatchObject({ bytesDiffer: 0 });
      expect(verifier.report?.bytesSame, `seed ${seed}`).toBe(DISK_BYTES);
      expect(kit.failures).toEqual([]);
      hub.stop();
    }
  });

  it('that the hub does not answer, or upstream cannot be read for, could not tell', async () => {
    const { kit, verify } = await prepared(filled(7), filled(7));
    kit.upstream.fail(Command.Read, NbdError.Eio, Infinity, 4 * MIB, 5 * MIB);
    const report = await verify();
    expect(outcomeOf(report)).toBe('could-not-tell');
    expect(report).toMatchObject({ bytesUnknown: MIB, bytesSame: DISK_BYTES - MIB, bytesDiffer: 0 });
    expect(report.reason).toMatch(/upstream cannot read/);
    kit.hashes.linkDown();
    expect(await verify()).toMatchObject({ bytesUnknown: DISK_BYTES, reason: 'there is no hub that could answer' });
  });

  it('is there to be seen before the next one takes its place; many at once share the last', async () => {
    const held = filled(7);
    held.writeUInt8(8, 5 * MIB);
    const { kit, verifier } = await prepared(filled(7), held);
    const ids = Array.from({ length: 12 }, () => verifier.start(null, 'test'));
    expect(new Set(ids).size).toBe(9);
    const seen = new Map<string, string>();
    for (let poll = 0; poll < 400; poll += 1) {
      const { report } = verifier;
      if (report !== null && report.finishedAt !== null) seen.set(report.id, outcomeOf(report));
      await kit.platform.clock.advance(250);
      kit.mirror.hurry();
    }
    expect([...seen.keys()]).toEqual([...new Set(ids)]);
    expect(seen.get(ids[0] ?? '')).toBe('differs');
  });

  it('keeps to its rate', async () => {
    const { kit, verify } = await prepared(filled(7), filled(7), 1, 4 * MIB);
    const begunMs = kit.platform.clock.monotonicMs();
    await verify();
    const tookMs = kit.platform.clock.monotonicMs() - begunMs;
    expect(tookMs).toBeGreaterThan(3000);
    expect(tookMs).toBeLessThan(6000);
  });

  it('asked for while one is under way is done after it; scheduled ones come by themselves', async () => {
    const { kit, verifier } = await prepared(filled(7), filled(7), 1, 16 * MIB);
    const { clock } = kit.platform;
    const first = verifier.start(null, 'test');
    const second = verifier.start('mine', 'test');
    expect(second).toBe('mine');
    expect(verifier.report?.id).toBe(first);
    await clock.runUntil(() => verifier.report?.id === 'mine' && verifier.report.finishedAt !== null);
    verifier.schedule(60_000);
    await clock.runUntil(() => verifier.report?.cause === 'scheduled');
    await kit.run(verifier.stop());
    expect(kit.records.filter(({ type }) => type !== FrameType.Flush)).toEqual([]);
  });
});

test('a tally counts what was never come to as unknown, and joins neighbours that differ', () => {
  const tally = new VerifyTally('id', 'test', new Map([['disk0', 100]]), 'then');
  tally.same('disk0', 40, true);
  tally.differs('disk0', 40, 10);
  tally.differs('disk0', 50, 10);
  expect(outcomeOf(tally.report())).toBe('differs');
  tally.finish('now', 'stopped');
  expect(tally.report()).toMatchObject({
    bytesUnknown: 40,
    bytesHoles: 40,
    reason: 'stopped',
    differs: [{ volume: 'disk0', offset: 40, length: 20 }],
  });
  const rest = new VerifyTally('id', 'test', new Map([['disk0', 100]]), 'then');
  rest.same('disk0', 99, false);
  expect(outcomeOf(rest.report())).toBe('could-not-tell');
});

test('a tally tells each volume apart, and the sums of all', () => {
  const sizes = new Map([
    ['a', 100],
    ['b', 50],
    ['c', 10],
  ]);
  const tally = new VerifyTally('id', 'test', sizes, 'then');
  tally.same('a', 90, false);
  tally.differs('a', 90, 10);
  tally.unknown('b', 20, 'marked');
  tally.same('c', 10, false);
  tally.finish('now', 'stopped');
  expect(tally.report()).toMatchObject({
    ...{ bytesTotal: 160, bytesSame: 100, bytesDiffer: 10, bytesUnknown: 50, reason: 'marked' },
    volumes: [
      { name: 'a', bytesTotal: 100, bytesSame: 90, bytesDiffer: 10, bytesUnknown: 0, reason: null },
      { name: 'b', bytesTotal: 50, bytesSame: 0, bytesDiffer: 0, bytesUnknown: 50, reason: 'marked' },
      { name: 'c', bytesTotal: 10, bytesSame: 10, bytesDiffer: 0, bytesUnknown: 0, reason: null },
    ],
  });
});
