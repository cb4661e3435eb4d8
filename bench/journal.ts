/**
 * How fast one group's storage receives on this machine's disk: frames made beforehand are cut by a FrameReader, as a
 * session does, and appended; back-pressure is obeyed. Prints records and bytes a second, CPU time, and how late records
 * became durable.
 *
 *   npx tsx -C @rephub/source bench/journal.ts [directory]
 */
import { silentLogger, uuidBytes } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { chainStart, encodeBody, FrameReader, FrameType, RecordEncoder } from '@rephub/protocol';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type GroupStore, openGroupStore } from '../packages/hub/src/storage/index.js';

const LINE = { id: '11111111-2222-4333-8444-555555555555', parent: null };
const VOLUME_BYTES = 64 * 1024 ** 3;
/** What one read from a socket brings. */
const CHUNK_BYTES = 1024 * 1024;

interface Profile {
  readonly name: string;
  readonly blockBytes: number;
  readonly records: number;
  readonly random: boolean;
  readonly retentionMs: number;
  /** Records of one chunk; as many as fill it when left out. Fewer: how a guest at low depth sends. */
  readonly perChunk?: number;
}

const PROFILES: readonly Profile[] = [
  { name: '4 KiB random, retained', blockBytes: 4096, records: 300_000, random: true, retentionMs: 86_400_000 },
  { name: '128 KiB sequential, retained', blockBytes: 131_072, records: 8_000, random: false, retentionMs: 86_400_000 },
  { name: '4 KiB random, applied at once', blockBytes: 4096, records: 300_000, random: true, retentionMs: 0 },
  { name: '128 KiB sequential, applied at once', blockBytes: 131_072, records: 16_000, random: false, retentionMs: 0 },
  {
    name: '4 KiB, one at a time',
    blockBytes: 4096,
    records: 10_000,
    random: true,
    retentionMs: 86_400_000,
    perChunk: 1,
  },
];

function makeStream(profile: Profile, encoder: RecordEncoder): { chunks: Buffer[]; lastNumber: number[] } {
  const payload = Buffer.alloc(profile.blockBytes, 0x5a);
  const blocks = VOLUME_BYTES / profile.blockBytes;
  const chunks: Buffer[] = [];
  const lastNumber: number[] = [];
  let pieces: Buffer[] = [];
  let bytes = 0;
  let last = 0;
  const cut = (): void => {
    chunks.push(Buffer.concat(pieces));
    lastNumber.push(last);
    pieces = [];
    bytes = 0;
  };
  const perChunk = profile.perChunk ?? Math.max(1, Math.floor(CHUNK_BYTES / (profile.blockBytes + 96)));
  for (let record = 0; record < perChunk * 64; record += 1) {
    const block = profile.random ? Math.floor(Math.random() * blocks) : record % blocks;
    last = encoder.encode(FrameType.Write, 0, 0, block * profile.blockBytes, profile.blockBytes, 1e15, 0, [payload]);
    pieces.push(encoder.head, payload, encoder.tail);
    bytes += 1;
    if (bytes === perChunk) cut();
  }
  return { chunks, lastNumber };
}

async function run(directory: string, profile: Profile): Promise<void> {
  const platform = nodePlatform();
  const store = await openGroupStore(platform, {
    directory,
    group: 'bench',
    hubId: 'bench',
    retentionMs: profile.retentionMs,
    indexBytes: 64 * 1024 * 1024,
    log: silentLogger,
  });
  await store.beginLine(LINE);
  const bytes = uuidBytes(LINE.id);
  const encoder = new RecordEncoder(bytes, 1, chainStart(bytes));
  const reader = new FrameReader({
    frame(header, raw) {
      store.append(header, raw);
    },
  });
  const send = (type: FrameType, length: number, body: unknown): void => {
    encoder.encode(type, 0, 0, 0, length, 1e15, 0, body === undefined ? [] : [encodeBody(body)]);
    reader.push(Buffer.concat([encoder.head, body === undefined ? Buffer.alloc(0) : encodeBody(body), encoder.tail]));
  };
  send(FrameType.VolumeAdded, VOLUME_BYTES, { name: 'disk0' });
  send(FrameType.SpanBegin, 0, { cause: 'bench', continues: false });
  send(FrameType.SpanEnd, 0, undefined);
  await store.settled();
  await measure(profile, store, encoder, reader);
  await store.close({ drain: false });
}

async function measure(
  profile: Profile,
  store: GroupStore,
  encoder: RecordEncoder,
  reader: FrameReader,
): Promise<void> {
  const latencies: number[] = [];
  const sent: { number: number; at: number }[] = [];
  let firstSent = 0;
  let wake: (() => void) | null = null;
  store.listener = {
    progressed(_received, durable) {
      const now = performance.now();
      for (let next = sent[firstSent]; next !== undefined && next.number <= durable; next = sent[firstSent]) {
        latencies.push(now - next.at);
        firstSent += 1;
      }
      if (profile.perChunk !== undefined && firstSent === sent.length) wake?.();
    },
    congested(now) {
      if (!now) wake?.();
    },
    stalled: () => undefined,
    failed(fault) {
      throw fault;
    },
  };
  let records = 0;
  let making = 0;
  const makingCpu = { user: 0, system: 0 };
  const cpu = process.cpuUsage();
  const began = performance.now();
  while (records < profile.records) {
    const makeBegan = performance.now();
    const makeCpu = process.cpuUsage();
    const { chunks, lastNumber } = makeStream(profile, encoder);
    making += performance.now() - makeBegan;
    const spent = process.cpuUsage(makeCpu);
    makingCpu.user += spent.user;
    makingCpu.system += spent.system;
    for (const [index, chunk] of chunks.entries()) {
      reader.push(chunk);
      sent.push({ number: lastNumber[index] ?? 0, at: performance.now() });
      if (store.progress.congested || profile.perChunk !== undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else await new Promise((resolve) => setImmediate(resolve));
    }
    records += chunks.length * (profile.perChunk ?? Math.floor(CHUNK_BYTES / (profile.blockBytes + 96)));
  }
  await store.settled();
  const seconds = (performance.now() - began - making) / 1000;
  const used = process.cpuUsage(cpu);
  const user = (used.user - makingCpu.user) / records;
  const system = (used.system - makingCpu.system) / records;
  latencies.sort((one, other) => one - other);
  const at = (share: number): string => (latencies[Math.floor((latencies.length - 1) * share)] ?? 0).toFixed(2);
  const megabytes = (records * profile.blockBytes) / 1e6;
  console.log(
    `${profile.name}: ${Math.round(records / seconds)} records/s, ${Math.round(megabytes / seconds)} MB/s; ` +
      `CPU ${user.toFixed(2)} µs user + ${system.toFixed(2)} µs system a record; ` +
      `durable after p50 ${at(0.5)} p99 ${at(0.99)} ms; index ${(store.state.indexBytes / 1e6).toFixed(0)} MB, ` +
      `journal ${(store.state.journalBytes / 1e6).toFixed(0)} MB, applied ${store.state.appliedNumber} of ${store.state.lastNumber}; rss ${(process.memoryUsage.rss() / 1e6).toFixed(0)} MB`,
  );
}

const parent = await mkdtemp(join(process.argv[2] ?? tmpdir(), 'rephub-journal-'));
try {
  for (const [index, profile] of PROFILES.entries()) await run(join(parent, `group-${index}`), profile);
} finally {
  await rm(parent, { recursive: true, force: true });
}
