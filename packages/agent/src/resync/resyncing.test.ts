import { silentLogger } from '@rephub/platform';
import { FrameType, SAMPLE_CAUSE, type VerifyReport } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { AGENT_DEFAULTS } from '../config.js';
import { type CopyProgress } from './copier.js';
import { FlushProof } from '../flushes/flush-proof.js';
import { Marks } from '../mirror/marks.js';
import { Resyncing, type SpanLink } from './resyncing.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const DIFFERENCE: VerifyReport = {
  ...{ id: 'a', cause: '', startedAt: 'then', finishedAt: null, bytesTotal: 8192, bytesSame: 4096, bytesUnknown: 0 },
  ...{ bytesDiffer: 4096, differs: [{ volume: 'disk0', offset: 0, length: 4096 }], reason: null },
};

interface Rig {
  readonly kit: VolumeKit;
  readonly resyncing: Resyncing;
  /** What the link was told, and how many records there were then. */
  readonly told: string[];
  readonly ended: CopyProgress[];
}

/** `before`: what the process before has left. */
async function rig(hasHub = true, before: VolumeKit | null = null): Promise<Rig> {
  const kit = before ?? (await volumeKit());
  const { mirror, platform, records, tracker, volume } = kit;
  const told: string[] = [];
  const ended: CopyProgress[] = [];
  const link: SpanLink = {
    status: { stalled: null },
    reportNow: () => undefined,
    noteSpanCause: (cause) => told.push(`noted ${cause}`),
    takeSpanCause: () => {
      const cause = told.findLast((line) => line !== 'taken');
      told.push('taken');
      return cause?.replace('noted ', '') ?? 'none';
    },
    announceVolumes: () => {
      told.push('announced');
      mirror.announceVolume(0, 'disk0', DISK_BYTES);
    },
  };
  const resyncing = new Resyncing({
    platform,
    log: silentLogger,
    config: AGENT_DEFAULTS,
    tracker,
    mirror,
    marks: new Marks(tracker, platform.clock, silentLogger, () => undefined),
    proof: new FlushProof(),
    volumes: [volume],
    latency: kit.latency,
    telling: new Set(),
    link: () => (hasHub ? link : null),
    ended: (progress) => ended.push(progress),
    unreadable: () => undefined,
  });
  records.length = 0;
  return { kit, resyncing, told, ended };
}

describe('Resyncing', () => {
  it('says why everything is made dirty, and it is by then', async () => {
    const { kit, resyncing, told } = await rig();
    await kit.run(resyncing.copyAll(true, 'asked for'));
    expect([told, kit.tracker.dirtyBytes]).toEqual([['noted compare: asked for'], DISK_BYTES]);
    await kit.run(resyncing.copyAll(false, 'asked for'));
    expect(told.at(-1)).toBe('noted full: asked for');
  });

  it('keeps to sending everything when a hub asks for a comparison meanwhile, not when the operator does', async () => {
    const { kit, resyncing, told } = await rig();
    await kit.run(resyncing.copyAll(false, 'asked for'));
    await kit.run(resyncing.copyAll(true, 'asked for at the hub'));
    expect([told.at(-1), resyncing.order.isFull]).toEqual(['noted full: asked for at the hub', true]);
    await kit.run(resyncing.copyAll(true, 'asked for', true));
    expect([told.at(-1), resyncing.order.isFull]).toEqual(['noted compare: asked for', false]);
  });

  it('compares everything when a sample of a process before has found a difference, and that one did not live to', async () => {
    const { kit, resyncing } = await rig();
    kit.mirror.linkDown();
    const { findings } = resyncing;
    await kit.run(findings.keep({ ...DIFFERENCE, cause: 'asked for by the operator' }));
    const repairing = await rig(true, kit);
    await kit.run(repairing.resyncing.recall());
    expect([repairing.told, kit.tracker.dirtyBytes]).toEqual([[], 64 * 1024]);

    await kit.run(findings.keep({ ...DIFFERENCE, id: 'b', cause: SAMPLE_CAUSE }));
    const comparing = await rig(true, kit);
    await kit.run(comparing.resyncing.recall());
    expect([comparing.told, kit.tracker.dirtyBytes]).toEqual([
      [expect.stringMatching(/^noted compare: a sample .* 4096 bytes/)],
      DISK_BYTES,
    ]);

    // What it does for that the next one goes on with.
    const last = await rig(true, kit);
    await kit.run(last.resyncing.recall());
    expect([last.told, last.resyncing.order.cause]).toEqual([[], comparing.resyncing.order.cause]);
  });

  it('begins a span with its cause, then names the volumes, then copies', async () => {
    const { kit, resyncing, ended } = await rig();
    await kit.run(resyncing.copyAll(false, 'asked for'));
    resyncing.beginSpan();
    // One that has begun is not begun again.
    resyncing.beginSpan();
    expect(resyncing.copier.progress?.cause).toBe('full: asked for');
    await kit.platform.clock.runUntil(() => ended.length > 0);
    kit.mirror.hurry();
    const types = kit.records.map(({ type }) => type);
    expect(types.slice(0, 2)).toEqual([FrameType.SpanBegin, FrameType.VolumeAdded]);
    expect(types.filter((type) => type === FrameType.SpanBegin)).toHaveLength(1);
    expect(types.at(-1)).toBe(FrameType.SpanEnd);
    expect([ended[0]?.bytesDone, kit.tracker.anyDirty()]).toEqual([DISK_BYTES, false]);
  });

  it('that has ended has served all causes there were', async () => {
    const { kit, resyncing, told, ended } = await rig();
    await kit.run(resyncing.copyAll(false, 'asked for'));
    resyncing.beginSpan();
    told.push('noted grown');
    await kit.platform.clock.runUntil(() => ended.length > 0);
    expect(told.slice(told.indexOf('noted grown'))).toEqual(['noted grown', 'taken']);
  });

  it('begins none without a hub', async () => {
    const { kit, resyncing } = await rig(false);
    await kit.run(resyncing.copyAll(false, 'asked for'));
    resyncing.beginSpan();
    expect([kit.records, resyncing.copier.progress]).toEqual([[], null]);
  });

  it('reads nothing once its readers have stopped; what is left stays dirty', async () => {
    const { kit, resyncing, ended } = await rig();
    await kit.run(resyncing.copyAll(false, 'asked for'));
    resyncing.beginSpan();
    await kit.run(Promise.all(resyncing.readers.map((reader) => reader.stop())));
    const sent = kit.records.length;
    await kit.platform.clock.advance(60_000);
    expect([kit.records.length, ended, kit.tracker.anyDirty()]).toEqual([sent, [], true]);
  });
});
