import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockRequest, Command, CommandFlag } from '../block-device.js';
import { connectionPair } from '../testing/memory-network.js';
import { settle } from '../testing/manual-clock.js';
import { RawPeer } from '../testing/raw-peer.js';
import { appendZeroes } from '../zeroes.js';
import type { Framing } from './constants.js';
import { boundRuns, ReplyWriter } from './reply-writer.js';

const OWNER = { completed: () => undefined };
const SIZE = 2 ** 40;

interface Chunk {
  readonly type: number;
  readonly isDone: boolean;
  readonly offset: number;
  readonly length: number;
  readonly bytes: Buffer;
}

function chunksOf(bytes: Buffer, framing: Framing): Chunk[] {
  const chunks: Chunk[] = [];
  const header = framing === 'extended' ? 32 : 20;
  for (let at = 0; at < bytes.length;) {
    const length = framing === 'extended' ? Number(bytes.readBigUInt64BE(at + 24)) : bytes.readUInt32BE(at + 16);
    const body = bytes.subarray(at + header, at + header + length);
    const type = bytes.readUInt16BE(at + 6);
    const isHole = type === 2;
    chunks.push({
      type,
      isDone: bytes.readUInt16BE(at + 4) === 1,
      offset: Number(body.readBigUInt64BE(0)),
      length: isHole ? body.readUInt32BE(8) : body.length - 8,
      bytes: isHole ? Buffer.alloc(body.readUInt32BE(8)) : body.subarray(8),
    });
    at += header + length;
  }
  return chunks;
}

async function written(framing: Framing, minimumBytes: number, write: (writer: ReplyWriter) => void): Promise<Buffer> {
  const [near, far] = connectionPair();
  const peer = new RawPeer(far);
  write(new ReplyWriter(near, framing, SIZE, minimumBytes));
  await settle();
  return peer.take();
}

function readRequest(offset: number, pieces: readonly (readonly [boolean, number])[], flags = 0): BlockRequest {
  const request = new BlockRequest(OWNER);
  request.command = Command.Read;
  request.flags = flags;
  request.offset = offset;
  for (const [index, [isZero, length]] of pieces.entries()) {
    if (isZero) appendZeroes(request.data, length);
    else request.data.push(Buffer.alloc(length, (index % 255) + 1));
    request.length += length;
  }
  return request;
}

describe('the answer to a read', () => {
  it.each(['structured', 'extended'] as const)(
    'of any mixture of data and zeroes covers it once, in order, in aligned chunks (%s)',
    async (framing) => {
      await fc.assert(
        fc.asyncProperty(
          fc.nat(5000),
          fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 20_000 })), { minLength: 1, maxLength: 12 }),
          fc.boolean(),
          async (offset, pieces, isOneChunk) => {
            const request = readRequest(offset, pieces, isOneChunk ? CommandFlag.DontFragment : 0);
            const wanted = Buffer.concat(request.data);
            const chunks = chunksOf(await written(framing, 1, (writer) => writer.read(request)), framing);
            expect(Buffer.concat(chunks.map(({ bytes }) => bytes)).equals(wanted)).toBe(true);
            let at = offset;
            for (const [index, chunk] of chunks.entries()) {
              const isLast = index === chunks.length - 1;
              expect([chunk.offset, chunk.isDone]).toEqual([at, isLast]);
              expect(chunk.length).toBeGreaterThan(0);
              at += chunk.length;
              if (!isLast) expect(at % 512).toBe(0);
              if (chunk.type === 2 && chunks.length > 1) expect(chunk.length).toBeGreaterThanOrEqual(4096);
            }
            if (isOneChunk) expect(chunks.map(({ type }) => type)).toEqual([1]);
          },
        ),
        { numRuns: 100 },
      );
    },
  );

  it('that is all zeroes is one hole, however short and unaligned', async () => {
    const chunks = chunksOf(
      await written('structured', 1, (writer) => writer.read(readRequest(777, [[true, 13]]))),
      'structured',
    );
    expect(chunks).toMatchObject([{ type: 2, offset: 777, length: 13, isDone: true }]);
  });

  it('has its holes at multiples of the minimum block size', async () => {
    const pieces = [
      [false, 512],
      [true, 40_000],
      [false, 448],
    ] as const;
    const chunks = chunksOf(
      await written('structured', 4096, (writer) => writer.read(readRequest(4096, pieces))),
      'structured',
    );
    expect(chunks.map(({ type, offset, length }) => [type, offset, length])).toEqual([
      [1, 4096, 4096],
      [2, 8192, 32_768],
      [1, 40_960, 4096],
    ]);
  });
});

describe('the runs of block status', () => {
  const bound = (runs: readonly number[], length: number, flags = 0, offset = 0, size = SIZE): readonly number[] => {
    const request = new BlockRequest(OWNER);
    request.flags = flags;
    request.offset = offset;
    request.length = length;
    return boundRuns({ runs }, request, 0xffff_0000, size);
  };

  it.each([
    ['nothing known is data', [], 1000, 0, [1000, 0]],
    ['neighbours of one kind are one', [10, 3, 20, 3, 30, 0], 60, 0, [30, 3, 30, 0]],
    ['runs of no bytes are left out', [0, 1, 10, 3, 0, 0, 5, 3], 15, 0, [15, 3]],
    ['the last may reach beyond what was asked for', [10, 3, 5000, 0], 20, 0, [10, 3, 5000, 0]],
    ['what follows the end of the range is left out', [20, 3, 30, 0], 20, 0, [20, 3]],
    ['one means one, within the range', [50, 3, 50, 0], 20, CommandFlag.RequestOne, [20, 3]],
    ['one is as long as its kind goes on', [10, 3, 5, 3, 5, 0], 20, CommandFlag.RequestOne, [15, 3]],
    [
      'a run too long for its field is cut to a multiple of every block size',
      [2 ** 33, 3],
      2 ** 33,
      0,
      [0xffff_0000, 3],
    ],
    ['flags beyond 32 bits are not told', [10, 2 ** 40 + 3], 10, 0, [10, 3]],
  ])('%s', (_, runs, length, flags, expected) => {
    expect(bound(runs, length, flags)).toEqual(expected);
  });

  it('never reach beyond the end of the export', () => {
    expect(bound([100, 3, 1000, 0], 200, 0, 800, 1000)).toEqual([100, 3, 100, 0]);
  });

  it('are what the specification allows, whatever a device says', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(10_000), fc.nat(3)), { maxLength: 30 }),
        fc.integer({ min: 1, max: 50_000 }),
        fc.nat(50_000),
        fc.boolean(),
        (pairs, length, offset, isOne) => {
          const size = 100_000;
          const runs = bound(pairs.flat(), length, isOne ? CommandFlag.RequestOne : 0, offset, size);
          expect(runs.length).toBeGreaterThan(0);
          let covered = 0;
          for (let index = 0; index < runs.length; index += 2) {
            expect(runs[index]).toBeGreaterThan(0);
            if (index > 0) expect(runs[index + 1]).not.toBe(runs[index - 1]);
            expect(covered).toBeLessThan(length);
            covered += runs[index] ?? 0;
          }
          expect(offset + covered).toBeLessThanOrEqual(size);
          if (isOne) expect([runs.length, covered <= length]).toEqual([2, true]);
        },
      ),
    );
  });
});
