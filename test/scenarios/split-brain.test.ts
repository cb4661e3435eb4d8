// There: both nodes have been primary and written; the split brain is detected on both of them, by whichever connects.
// Here: the hub is on a line that left the agent's (L6), or on one that has nothing to do with it (L7). Both sides say who wrote
// what since when and how much; nothing is sent, nothing is overwritten, and no restart changes that.
import { randomUuid, uuidBytes } from '@rephub/platform';
import { encodeBody, FrameReader, FrameType, RecordEncoder } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { type Cluster } from '../sim/cluster.js';
import { expectEqual, KIB, MIB, protectedCluster, settled, SMALL_WINDOW, status, write } from './scene.js';

const WRITES = 5;
/** Records of the other line: the span and the volume in it, then writes. */
const RECORDS = 3 + WRITES;

/** The hub goes on by itself on another line, as after a failover, while the agent is away. */
async function otherLine(cluster: Cluster, parentNumber: number | null): Promise<string> {
  const store = hubGroup(cluster).store;
  if (store === null) throw new Error('the group is not open');
  const id = randomUuid(cluster.agentHost.randomness);
  const parent = parentNumber === null ? null : { id: status(cluster).generation, number: parentNumber };
  await cluster.run(store.beginLine({ id, parent }));
  const { lastNumber, lastChecksum } = store.state;
  const encoder = new RecordEncoder(uuidBytes(id), lastNumber + 1, lastChecksum);
  const reader = new FrameReader({
    frame: (header, raw) => {
      store.append(header, raw);
    },
  });
  const record = (type: FrameType, offset: number, length: number, payload: readonly Buffer[]): void => {
    encoder.encode(type, 0, 0, offset, length, cluster.clock.unixMs() * 1000, 0, payload);
    reader.push(Buffer.concat([encoder.head, ...payload, encoder.tail]));
  };
  record(FrameType.SpanBegin, 0, 0, [encodeBody({ cause: 'another line', continues: false })]);
  record(FrameType.VolumeAdded, 0, cluster.options.diskBytes, [encodeBody({ name: 'disk0' })]);
  record(FrameType.SpanEnd, 0, 0, []);
  for (let at = 0; at < WRITES; at++) {
    record(FrameType.Write, at * 4 * KIB, 4 * KIB, [Buffer.alloc(4 * KIB, 'of the hub')]);
  }
  await cluster.run(store.settled());
  return id;
}

function hubGroup(cluster: Cluster): ReturnType<NonNullable<Cluster['hub']>['hub']['group']> {
  if (cluster.hub === null) throw new Error('no hub is running');
  return cluster.hub.hub.group('vm1');
}

for (const [what, isChild] of [
  ['a line that left the agent’s', true],
  ['a line that has nothing to do with the agent’s', false],
] as const) {
  test(`${what}: both sides say what parts them, and nothing moves until somebody acts`, async () => {
    const cluster = await protectedCluster({ diskBytes: 8 * MIB, agent: { ...SMALL_WINDOW, host: 'kvm3' } });
    await write(cluster, 0, MIB, 'in common');
    await settled(cluster);
    const { generation, seq } = status(cluster);
    const forkedUnixMs = cluster.clock.unixMs();
    cluster.silenceHub(true);
    const wroteUnixMs = cluster.clock.unixMs();
    await write(cluster, 4 * MIB, 256 * KIB, 'of the agent');
    await cluster.clock.runUntil(() => !status(cluster).agentConnected);
    const line = await otherLine(cluster, isChild ? seq : null);
    cluster.silenceHub(false);
    await cluster.clock.runUntil(() => status(cluster).hub?.refused === true);
    await cluster.clock.advance(60_000);

    const { divergence, reason, agentConnected } = status(cluster);
    expect(agentConnected).toBe(false);
    expect(reason).toMatch(isChild ? /^superseded/ : /^split-brain/);
    expect(divergence).toMatchObject({
      kind: isChild ? 'superseded' : 'split-brain',
      common: isChild ? { line: generation, number: seq } : null,
      agent: { line: { id: generation }, host: 'kvm3', records: isChild ? 4 : null },
      hub: { line: { id: line }, records: isChild ? RECORDS : null },
    });
    // Four writes of 64 KiB in frames, and nothing else.
    expect(divergence?.agent.unsentBytesAtMost).toBeGreaterThanOrEqual(256 * KIB);
    expect(divergence?.agent.unsentBytesAtMost).toBeLessThan(260 * KIB);
    expect(divergence?.agent.unsentSinceUnixMs).toBeGreaterThanOrEqual(wroteUnixMs);
    expect(divergence?.agent.unsentSinceUnixMs).toBeLessThan(wroteUnixMs + 1_000);
    if (isChild) {
      expect(divergence?.hub.journalBytes).toBeGreaterThan(WRITES * 4 * KIB);
      expect(divergence?.hub.journalBytes).toBeLessThan(WRITES * 4 * KIB + 8 * KIB);
      expect(divergence?.hub.lineJournalBytes).toBe(divergence?.hub.journalBytes);
    }

    expect(divergence?.hub.lineBegunUnixMs).toBeGreaterThanOrEqual(forkedUnixMs);
    expect(divergence?.hub.writer).toMatchObject({ session: 1 });
    const atHub = hubGroup(cluster).status();
    expect(atHub.divergence).toEqual(divergence);
    expect(atHub).toMatchObject({ state: 'degraded', seq: (isChild ? seq : 0) + RECORDS, generation: line });
    const told = cluster.hub?.hub.events.after(null, 100).filter(({ event }) => event === divergence?.kind) ?? [];
    expect(told).toHaveLength(1);
    expect(told[0]?.fields).toMatchObject({ agentLine: generation, hubLine: line, agentHost: 'kvm3' });
    expect(told[0]?.message).toContain('Nothing is resolved by itself');

    // A new process knows it too, and stays away; the operator's word brings it back to the same answer.
    await cluster.stopAgent();
    await cluster.startAgent();
    await cluster.clock.advance(60_000);
    expect(status(cluster).divergence).toEqual(divergence);
    expect(status(cluster).hub?.sessions).toBe(0);
    await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
    await cluster.clock.runUntil(() => status(cluster).hub?.refused === true);
    expect(status(cluster).divergence).toMatchObject({ kind: divergence?.kind, hub: { line: { id: line } } });
    expect(hubGroup(cluster).status()).toMatchObject({ seq: (isChild ? seq : 0) + RECORDS, generation: line });

    // Somebody has decided: the agent's is good, what the hub has goes.
    await cluster.run(cluster.hub?.hub.forget('vm1') ?? Promise.resolve());
    await cluster.run(cluster.agent?.resume() ?? Promise.resolve());
    await settled(cluster);
    expect(status(cluster).divergence).toBeNull();
    expect(hubGroup(cluster).status()).toMatchObject({ divergence: null, generation });
    await expectEqual(cluster);
  });
}
