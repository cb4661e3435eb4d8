// Compressed records at the hub: agreed upon or refused, read like all others, counted.
import { connectNbd, readBytes } from '@rephub/nbd';
import { type BlockCodec } from '@rephub/platform';
import { nodeCodecs } from '@rephub/platform/node';
import { codecFeature, Compression, FrameFlag, FrameType, type PackedPayload } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { type HubInProcess, startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';

const CODECS = nodeCodecs();
const OFFER = { features: ['compress-brotli', ...CODECS.map(({ name }) => codecFeature(name))] };
const TEXT = Buffer.alloc(256 * 1024, 'what the disk of a virtual machine holds, ');

function packedBy(codec: BlockCodec, raw: Buffer): PackedPayload {
  const stored = codec.compress(raw);
  return { compression: Compression[codec.name], slices: [stored], bytes: stored.length };
}

async function replica(hub: HubInProcess, offset: number, length: number): Promise<Buffer> {
  const client = await connectNbd(hub.platform, hub.uri('vm1/disk0'));
  try {
    return await readBytes(client, offset, length);
  } finally {
    await client.close();
  }
}

test.each(CODECS.map((codec) => [codec.name, codec] as const))(
  '%s is agreed upon, taken, read and counted',
  async (name, codec) => {
    const hub = await startHub(testScope());
    const agent = new ScriptedAgent(hub.platform, hub.agents);
    await agent.begin(OFFER);
    expect(agent.welcome?.features).toEqual(CODECS.map((known) => codecFeature(known.name)));
    await agent.firstSync();
    const fields = { offset: MIB, length: TEXT.length };
    const packed = packedBy(codec, TEXT);
    agent.record(FrameType.Write, fields, [TEXT], packed);
    await agent.durableUpTo(agent.write(MIB + 5000, Buffer.alloc(1000, 7)));
    const expected = Buffer.from(TEXT);
    expected.fill(7, 5000, 6000);
    expect((await replica(hub, MIB, TEXT.length)).equals(expected)).toBe(true);
    agent.record(FrameType.Write, fields, [TEXT], packed);
    await agent.durableUpTo(agent.lastNumber);
    const { received } = hub.server.hub.group('vm1').status();
    expect(received.compression).toBe(name);
    expect(received.rawBytes - received.carriedBytes).toBe(2 * (TEXT.length - packed.bytes));
  },
);

test('what was not agreed upon ends the session (promise UPGRADE)', async () => {
  const [codec] = CODECS;
  if (codec === undefined) throw new Error('there is no codec');
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.protect();
  expect(agent.welcome?.features).toEqual([]);
  agent.record(FrameType.Write, { length: TEXT.length }, [TEXT], packedBy(codec, TEXT));
  expect((await agent.ended()).refuse).toMatchObject({ code: 'record-compressed' });
});

test('one that does not come out as its header says ends the session, and is not in the journal (promise FRAME)', async () => {
  const [codec] = CODECS;
  if (codec === undefined) throw new Error('there is no codec');
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin(OFFER);
  await agent.firstSync();
  const { seq } = hub.server.hub.group('vm1').status();
  agent.record(FrameType.Write, { length: TEXT.length }, [TEXT], packedBy(codec, Buffer.alloc(TEXT.length, 'another')));
  expect((await agent.ended()).refuse).toMatchObject({ code: 'payload-checksum' });
  expect(hub.server.hub.group('vm1').status().seq).toBe(seq);
});

test('a remote read that is answered compressed gives the raw bytes', async () => {
  const [codec] = CODECS;
  if (codec === undefined) throw new Error('there is no codec');
  const hub = await startHub(testScope());
  const agent = new ScriptedAgent(hub.platform, hub.agents);
  await agent.begin(OFFER);
  await agent.firstSync();
  agent.onReadRegion = ({ tag, offset, length }) => {
    const raw = TEXT.subarray(0, length);
    const flags = FrameFlag.Copied | FrameFlag.Answer;
    agent.record(FrameType.Write, { flags, tag, offset, length }, [raw], packedBy(codec, raw));
  };
  const order = { volume: 'disk0', offset: 8192, length: 65_536, timeoutMs: 5000 };
  const { bytes } = await hub.server.hub.group('vm1').readRegion(order);
  expect(bytes.equals(TEXT.subarray(0, 65_536))).toBe(true);
});
