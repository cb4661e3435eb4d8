/** What one handshake leaves for the next: volumes are announced once, however often the link goes before the hub has heard of them. */
import { silentLogger, uuidBytes } from '@rephub/platform';
import { chainStart, FrameType, type HubGroup, type Verdict, type Welcome } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { AGENT_DEFAULTS, type AgentConfig } from '../config.js';
import { Handshake } from './handshake.js';
import { ResyncOrder } from '../resync/resync-order.js';
import { Standing } from './standing.js';
import { DISK_BYTES, type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const UUID = '00000000-0000-4000-8000-000000000000';
const config: AgentConfig = {
  ...AGENT_DEFAULTS,
  group: 'vm1',
  volumes: [{ name: 'disk0', upstream: 'file:/disk0.raw', listen: [] }],
  listen: [],
  hubs: ['tcp://127.0.0.1:9010'],
  stateDirectory: '/state',
};

function welcome(group: HubGroup | null): Welcome {
  return {
    ...{ protocol: 1, features: [], software: 'test', hubId: UUID, epoch: 1, heartbeatMs: 1000, timeoutMs: 5000 },
    group,
  };
}

function hubGroup(kit: VolumeKit, lastNumber: number, volumes: HubGroup['volumes']): HubGroup {
  return {
    ...{ owner: UUID, ownerSession: 1, ownerNonce: UUID, line: kit.tracker.identity.line },
    ...{ lastNumber, lastChecksum: 0, spanOpen: false, consistentNumber: null, failedOver: false, volumes },
  };
}

function verdict(kit: VolumeKit, kind: Verdict['kind']): Verdict {
  const previousChecksum = chainStart(uuidBytes(kit.tracker.identity.line.id));
  return {
    kind,
    row: kind === 'resume' ? 'L16-resume' : 'L1-unknown-new',
    reason: 'test',
    nextNumber: 1,
    previousChecksum,
  };
}

function shaking(kit: VolumeKit): { readonly handshake: Handshake; readonly order: ResyncOrder } {
  const { comparer, mirror, platform, tracker, volume } = kit;
  const order = new ResyncOrder(tracker, silentLogger);
  const parts = { platform, log: silentLogger, config, tracker, mirror, comparer, order, volumes: [volume] };
  return { order, handshake: new Handshake({ ...parts, nonce: UUID, changedBehind: null }, new Standing(tracker)) };
}

/** A first sync has begun, the volume is announced. */
async function begun(): Promise<{ readonly kit: VolumeKit; readonly handshake: Handshake }> {
  const kit = await volumeKit();
  const { handshake } = shaking(kit);
  await kit.run(handshake.carryOut(verdict(kit, 'first-sync'), welcome(null)));
  handshake.announceVolumes();
  return { kit, handshake };
}

const announced = ({ records }: VolumeKit): number =>
  records.filter(({ type }) => type === FrameType.VolumeAdded || type === FrameType.Resize).length;

test('a volume that the window holds as announced is not announced again after a resume', async () => {
  const { kit, handshake } = await begun();
  await kit.platform.clock.advance(1000);
  expect(announced(kit)).toBe(1);
  // The hub has nothing of it yet: the window brings it.
  await kit.run(handshake.carryOut(verdict(kit, 'resume'), welcome(hubGroup(kit, 0, []))));
  handshake.announceVolumes();
  await kit.platform.clock.advance(1000);
  expect(announced(kit)).toBe(1);
});

test('what a hub knows of after the window was given up is believed: a volume of another size is told again', async () => {
  const { kit, handshake } = await begun();
  const volumes = [{ index: 0, name: 'disk0', sizeBytes: DISK_BYTES / 2 }];
  const again = { ...verdict(kit, 'resync-by-bitmap'), nextNumber: 100 };
  await kit.run(handshake.carryOut(again, welcome(hubGroup(kit, 99, volumes))));
  handshake.announceVolumes();
  await kit.platform.clock.advance(1000);
  const { records } = kit;
  expect(records.filter(({ type }) => type === FrameType.Resize)).toMatchObject([{ length: DISK_BYTES }]);
});

test('how old what the hub lacks may be counts from Hello on; without the hub’s word, or a point, it is unknown (promise RPO)', async () => {
  const { kit, handshake } = await begun();
  const exposedMs = async (told: Partial<Welcome>, consistentNumber: number | null): Promise<number | null> => {
    handshake.hello();
    await kit.platform.clock.advance(300);
    const group = { ...hubGroup(kit, 99, []), consistentNumber };
    const compare = { ...verdict(kit, 'compare-everything'), nextNumber: 100 };
    await kit.run(handshake.carryOut(compare, { ...welcome(group), ...told }));
    return kit.mirror.exposedMs();
  };
  expect(await exposedMs({}, 50)).toBeNull();
  expect(await exposedMs({ exposedMs: 20_000 }, null)).toBeNull();
  const knownMs = (await exposedMs({ exposedMs: 20_000 }, 50)) ?? 0;
  expect(knownMs).toBeGreaterThanOrEqual(20_300);
  expect(knownMs).toBeLessThan(21_000);
});

test.each([
  ['resync-by-bitmap', false, 'full'],
  ['compare-everything', false, 'full'],
  ['first-sync', false, 'none'],
  ['first-sync', true, 'none'],
  ['nothing-to-do', false, 'none'],
] as const)('what an earlier process was to send in full after %s (seeded: %s): %s', async (kind, seeded, expected) => {
  const kit = await volumeKit();
  const before = shaking(kit);
  await kit.run(before.order.give(false, 'asked for', () => Promise.resolve()));
  const started: boolean[] = [];
  const { comparer } = kit;
  comparer.start = () => started.push(true);
  comparer.stop = () => started.push(false);
  const { handshake, order } = shaking(kit);
  const hub = hubGroup(kit, 0, [{ index: 0, name: 'disk0', sizeBytes: DISK_BYTES }]);
  await kit.run(handshake.carryOut(verdict(kit, kind), { ...welcome(hub), seeded }));
  expect(order.isFull ? 'full' : 'none').toBe(expected);
  expect(started.at(-1)).toBe(kind === 'nothing-to-do' ? undefined : seeded);
  if (expected === 'full') expect(handshake.takeSpanCause()).toBe(`full: asked for; gone on with (${kind}: test)`);
});

test('what was ordered since Hello was said is not taken for served by a hub that was equal then', async () => {
  const kit = await volumeKit();
  kit.mirror.linkDown();
  const { handshake, order } = shaking(kit);
  handshake.hello();
  await kit.run(order.give(false, 'asked for', (cause) => kit.mirror.copyEverything(cause)));
  const hub = hubGroup(kit, 0, [{ index: 0, name: 'disk0', sizeBytes: DISK_BYTES }]);
  await kit.run(handshake.carryOut(verdict(kit, 'nothing-to-do'), welcome(hub)));
  expect([order.isFull, kit.mirror.state]).toEqual([true, 'gap']);
  expect(shaking(kit).order.cause).toBe('full: asked for');
});
