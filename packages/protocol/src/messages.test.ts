import { NAME_PATTERN, ProtocolFault, uuidBytes } from '@rephub/platform';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import {
  ackSchema,
  agentReportSchema,
  beatSchema,
  byeSchema,
  chainStart,
  decodeBody,
  encodeBody,
  encodeControl,
  encodeFrameWithBody,
  helloSchema,
  hubGroupSchema,
  lineSchema,
  readRegionSchema,
  refuseSchema,
  regionRefusedSchema,
  requestSchema,
  resyncProgressSchema,
  resyncResultSchema,
  spanBeginSchema,
  startSchema,
  volumeAddedSchema,
  volumeSchema,
  welcomeSchema,
} from './messages.js';
import { FrameHeader, FrameType, MAX_CONTROL_BYTES } from './frame.js';

const UUID = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';
const line = { id: UUID, parent: { id: UUID, number: 4 } };
const volume = { index: 0, name: 'disk0', sizeBytes: 2 ** 46 };
const group = {
  owner: UUID,
  ownerSession: 4,
  ownerNonce: UUID,
  line,
  lastNumber: 2 ** 53 - 1,
  lastChecksum: 0xffff_ffff,
  spanOpen: false,
  consistentNumber: 5,
  failedOver: false,
  volumes: [volume],
};
const progress = { cause: 'first sync', bytesDone: 1, bytesTotal: 2, etaSeconds: 1.5 };
const result = { cause: 'gap', bytesSent: 1, bytesCompared: 0, finishedAt: '2026-01-01T00:00:00Z' };
const report = {
  state: 'protected',
  reason: '',
  mode: 'async',
  effectiveMode: 'async',
  rpoMs: 0.25,
  lagBytes: 0,
  dirtyBytes: 0,
  lastNumber: 9,
  resync: progress,
  lastResync: result,
};

/** A full example of every body that travels. */
const EXAMPLES: readonly (readonly [string, z.ZodType, Record<string, unknown>])[] = [
  ['line', lineSchema, line],
  ['volume', volumeSchema, volume],
  [
    'hello',
    helloSchema,
    {
      protocol: { min: 1, max: 1 },
      features: ['zstd'],
      software: 'repagent 0.1.0',
      group: 'vm1',
      agentId: UUID,
      session: 1,
      nonce: UUID,
      line,
      lastNumber: 1,
      restsOn: 0,
      durableNumber: 0,
      window: { first: 1, last: 1, previousChecksum: 3 },
      tracking: 'marked',
      volumes: [volume],
      mode: 'async',
    },
  ],
  ['hubGroup', hubGroupSchema, group],
  [
    'welcome',
    welcomeSchema,
    {
      protocol: 1,
      features: [],
      software: 'rephub 0.1.0',
      hubId: UUID,
      epoch: 1,
      heartbeatMs: 1000,
      timeoutMs: 5000,
      group,
    },
  ],
  ['start', startSchema, { verdict: 'resume', row: 'L16-resume', firstNumber: 5 }],
  ['refuse', refuseSchema, { code: 'size', message: 'another size', retryAfterMs: 1000 }],
  ['resyncProgress', resyncProgressSchema, progress],
  ['resyncResult', resyncResultSchema, result],
  ['agentReport', agentReportSchema, report],
  ['beat', beatSchema, { sentMs: 1.5, echoMs: 1, unixMs: 1e12, report }],
  ['ack', ackSchema, { received: 2 ** 40, durable: 1, stalled: 'disk-full' }],
  ['readRegion', readRegionSchema, { tag: 1, volume: 0, offset: 2 ** 45, length: 1 }],
  ['regionRefused', regionRefusedSchema, { tag: 1, code: 'io-error', message: '' }],
  ['request', requestSchema, { kind: 'resync' }],
  ['bye', byeSchema, { reason: 'stopping' }],
  ['spanBegin', spanBeginSchema, { cause: 'gap', continues: true }],
  ['volumeAdded', volumeAddedSchema, { name: 'disk0' }],
];

function refusalOf(schema: z.ZodType, body: unknown): string {
  try {
    decodeBody(schema, encodeBody(body), 'Thing');
  } catch (thrown) {
    if (thrown instanceof ProtocolFault && thrown.code === 'bad-body') return thrown.message;
    throw thrown;
  }
  return 'accepted';
}

describe.each(EXAMPLES)('body of %s', (_name, schema, example) => {
  test('comes back as it was sent', () => {
    expect(decodeBody(schema, encodeBody(example), 'Thing')).toEqual(example);
  });

  test('is read without what a newer peer adds to it', () => {
    expect(decodeBody(schema, encodeBody({ ...example, addedLater: { deep: [1] } }), 'Thing')).toEqual(example);
  });

  test('is refused when anything is missing or of another kind, and the refusal names it', () => {
    for (const key of Object.keys(example)) {
      const rest = Object.fromEntries(Object.entries(example).filter(([other]) => other !== key));
      expect(refusalOf(schema, rest)).toMatch(new RegExp(`^Thing: ${key}: `));
      expect(refusalOf(schema, { ...example, [key]: { not: 'this' } })).toMatch(new RegExp(`^Thing: ${key}`));
    }
  });

  test('is refused when it is not a map at all', () => {
    for (const body of [null, 5, 'text', [], [example]]) expect(refusalOf(schema, body)).toMatch(/^Thing: /);
  });
});

describe('bodies, values that make no sense', () => {
  const hello = EXAMPLES[2]?.[2] ?? {};
  const welcome = EXAMPLES[4]?.[2] ?? {};

  test.each<[string, z.ZodType, unknown, RegExp]>([
    ['a number beyond 2^53', ackSchema, { received: 2 ** 53, durable: 0, stalled: null }, /^Thing: received: /],
    ['a negative number', ackSchema, { received: -1, durable: 0, stalled: null }, /^Thing: received: /],
    ['a fraction', ackSchema, { received: 0.5, durable: 0, stalled: null }, /^Thing: received: /],
    ['not a number', beatSchema, { sentMs: Number.NaN, echoMs: null, unixMs: 0, report: null }, /^Thing: sentMs: /],
    ['a group with a slash', helloSchema, { ...hello, group: 'a/b' }, /^Thing: group: /],
    ['an id in capitals', helloSchema, { ...hello, agentId: UUID.toUpperCase() }, /^Thing: agentId: /],
    ['no volume', helloSchema, { ...hello, volumes: [] }, /^Thing: volumes: /],
    [
      'a volume twice by name',
      helloSchema,
      { ...hello, volumes: [volume, { ...volume, index: 1 }] },
      /name occurs twice/,
    ],
    [
      'a volume twice by index',
      helloSchema,
      { ...hello, volumes: [volume, { ...volume, name: 'b' }] },
      /index occurs twice/,
    ],
    [
      'a nested wrong value',
      helloSchema,
      { ...hello, volumes: [{ ...volume, sizeBytes: -1 }] },
      /^Thing: volumes\.0\.sizeBytes: /,
    ],
    [
      'a window that ends before it begins',
      helloSchema,
      { ...hello, window: { first: 5, last: 3, previousChecksum: 0 } },
      /^Thing: window\.last: must not be below/,
    ],
    [
      'a timeout below the heartbeat',
      welcomeSchema,
      { ...welcome, timeoutMs: 900 },
      /^Thing: timeoutMs: must be above/,
    ],
    ['an age below zero', welcomeSchema, { ...welcome, exposedMs: -1 }, /^Thing: exposedMs: /],
    ['a text without end', byeSchema, { reason: 'x'.repeat(5000) }, /^Thing: reason: /],
    ['a read of nothing', readRegionSchema, { tag: 1, volume: 0, offset: 0, length: 0 }, /^Thing: length: /],
  ])('%s is refused', (_what, schema, body, why) => {
    expect(refusalOf(schema, body)).toMatch(why);
  });

  test('an empty window says that nothing is left to send', () => {
    expect(refusalOf(helloSchema, { ...hello, window: { first: 6, last: 5, previousChecksum: 0 } })).toBe('accepted');
  });

  test('bytes that are no msgpack are refused', () => {
    expect(() => decodeBody(byeSchema, Buffer.from([0xc1]), 'Bye')).toThrow(/^Bye: /);
    expect(() => decodeBody(byeSchema, Buffer.alloc(0), 'Bye')).toThrow(/^Bye: cut short/);
  });

  test('a key named __proto__ changes no prototype', () => {
    const body = Buffer.concat([
      Buffer.from([0x82, 0xa6]),
      Buffer.from('reason'),
      Buffer.from([0xa1, 0x78, 0xa9]),
      Buffer.from('__proto__'),
      Buffer.from([0x81, 0xa1, 0x61, 0x01]),
    ]);
    const decoded: object = decodeBody(byeSchema, body, 'Bye');
    expect(decoded).toEqual({ reason: 'x' });
    expect('a' in decoded).toBe(false);
  });
});

describe('whole frames with a body', () => {
  test('payload checksums are those of the body', () => {
    const header = new FrameHeader();
    header.type = FrameType.SpanBegin;
    header.number = 5;
    const frame = encodeFrameWithBody(header, { cause: 'gap', continues: false });
    expect(header.storedLength).toBe(frame.length - 96);
    expect(header.storedChecksum).toBe(crc32(frame.subarray(88, frame.length - 8)));
  });

  test('a body above 1 MiB is not sent', () => {
    expect(() => encodeControl(FrameType.Bye, { reason: 'x'.repeat(MAX_CONTROL_BYTES) })).toThrow(ProtocolFault);
  });
});

describe('identities', () => {
  test("a line's chain starts with the CRC-32 of its 16 bytes", () => {
    expect(chainStart(uuidBytes(UUID))).toBe(crc32(Buffer.from('aaaaaaaabbbb4ccc8dddeeeeeeeeeeee', 'hex')));
  });

  test('names are those of the contract', () => {
    for (const good of ['a', '0', 'vm1', 'A.b_c-d', 'x'.repeat(64)]) expect(NAME_PATTERN.test(good)).toBe(true);
    for (const bad of ['', '.a', '-a', '_a', 'a/b', 'a b', 'ä', 'x'.repeat(65), 'a\n']) {
      expect(NAME_PATTERN.test(bad)).toBe(false);
    }
  });
});

test('a time that no Date can show is refused, wherever it stands: who shows it would fail', () => {
  const [, , hello] = EXAMPLES.find(([name]) => name === 'hello') ?? ['', helloSchema, {}];
  const written = { markedBytes: 0, windowBytes: 0, sinceUnixMs: 1e300 };
  expect(refusalOf(helloSchema, { ...hello, written })).toContain('written.sinceUnixMs');
  expect(refusalOf(helloSchema, { ...hello, written: { ...written, sinceUnixMs: -1e300 } })).toContain('sinceUnixMs');
  const writer = { agentId: UUID, session: 1 };
  const held = { ...group, written: { journalBytes: 0, begunUnixMs: 1e300, writer } };
  expect(refusalOf(hubGroupSchema, held)).toContain('written.begunUnixMs');
  expect(refusalOf(agentReportSchema, { ...report, rpoMs: 1e300 })).toContain('rpoMs');
  expect(refusalOf(refuseSchema, { code: 'size', message: '', retryAfterMs: 1e300 })).toContain('retryAfterMs');
  expect(refusalOf(beatSchema, { sentMs: 0, echoMs: null, unixMs: 1e300, report: null })).toContain('unixMs');
});
