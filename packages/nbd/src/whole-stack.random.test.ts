/**
 * Client, wire, server and fitted limits together against a plain buffer: random requests, several at a time where
 * they do not overlap, over a stream that is cut anywhere.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type BlockDevice,
  CommandFlag,
  connectNbd,
  fitLimits,
  fixedExports,
  memoryDevice,
  NbdServer,
} from './index.js';
import { blockStatus, flushDevice, readBytes, trimRange, writeBytes, zeroRange } from './promised.js';
import { ManualClock, settle } from './testing/manual-clock.js';
import { type Cutter, memoryNetwork } from './testing/memory-network.js';

const SIZE = 300_000;
/** Requests of one batch stay in a part each, so that their order does not matter. */
const PARTS = 4;
const PART_BYTES = SIZE / PARTS;

type Kind = 'write' | 'fua' | 'zero' | 'no-hole' | 'trim' | 'read' | 'status' | 'flush';
const KINDS: readonly Kind[] = ['write', 'fua', 'zero', 'no-hole', 'trim', 'read', 'status', 'flush'];

interface Step {
  readonly kind: Kind;
  readonly offset: number;
  readonly length: number;
  readonly fill: number;
}

const batch = fc.array(
  fc.record({
    kind: fc.constantFrom(...KINDS),
    offset: fc.nat(PART_BYTES - 1),
    length: fc.integer({ min: 1, max: PART_BYTES }),
    fill: fc.integer({ min: 1, max: 255 }),
  }),
  { minLength: 1, maxLength: PARTS },
);

/** Cuts a stream into pieces of these lengths, over and over. */
function cutter(lengths: readonly number[]): Cutter {
  let turn = 0;
  return (bytes) => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = lengths[turn++ % lengths.length] ?? bytes.length;
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    return pieces;
  };
}

async function run(device: BlockDevice, model: Buffer, step: Step, part: number): Promise<void> {
  const offset = part * PART_BYTES + step.offset;
  const end = Math.min(offset + step.length, (part + 1) * PART_BYTES);
  const length = end - offset;
  switch (step.kind) {
    case 'write':
    case 'fua':
      model.fill(step.fill, offset, end);
      await writeBytes(device, offset, Buffer.alloc(length, step.fill), step.kind === 'fua');
      return;
    case 'zero':
    case 'no-hole':
    case 'trim':
      model.fill(0, offset, end);
      if (step.kind === 'trim') await trimRange(device, offset, length);
      else await zeroRange(device, offset, length, step.kind === 'no-hole' ? CommandFlag.NoHole : 0);
      // What a trim leaves behind is undefined; the model is told.
      if (step.kind === 'trim') (await readBytes(device, offset, length)).copy(model, offset);
      return;
    case 'read':
      expect((await readBytes(device, offset, length)).equals(model.subarray(offset, end))).toBe(true);
      return;
    case 'status': {
      const { runs } = await blockStatus(device, offset, length, 'base:allocation');
      let at = offset;
      for (let index = 0; index < runs.length && at < end; index += 2) {
        const to = Math.min(at + (runs[index] ?? 0), end);
        const isZero = ((runs[index + 1] ?? 0) & 2) !== 0;
        if (isZero) expect(model.subarray(at, to).every((byte) => byte === 0)).toBe(true);
        at = to;
      }
      expect(at).toBeGreaterThan(offset);
      return;
    }
    case 'flush':
      await flushDevice(device);
      return;
  }
}

describe.each([
  ['structured replies', false],
  ['extended headers', true],
] as const)('the whole stack with %s', (_, extendedHeaders) => {
  it.each([
    [1, 33_554_432],
    [512, 65_536],
    [4096, 4096],
  ])('behaves as a buffer would: blocks of %i bytes, payloads of %i', async (minimumBytes, maximumBytes) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1, maxLength: 8 }),
        async (batches, lengths) => {
          const platform = { clock: new ManualClock(), network: memoryNetwork(cutter(lengths)) };
          const disk = memoryDevice(SIZE, { limits: { minimumBytes, maximumBytes, preferredBytes: 4096 } });
          const faults: string[] = [];
          const server = new NbdServer({
            platform,
            exports: fixedExports(new Map([['disk', disk]])),
            limits: { requestsInFlight: 3 },
            onFault: ({ code }) => faults.push(code),
          });
          await server.listen({ kind: 'tcp', host: 'here', port: 1 });
          const client = await connectNbd(platform, 'nbd://here:1/disk', { extendedHeaders });
          const device = fitLimits(client, { minimumBytes: 1, preferredBytes: 4096, maximumBytes: 33_554_432 });
          const model = Buffer.alloc(SIZE);
          for (const steps of batches) await Promise.all(steps.map((step, part) => run(device, model, step, part)));
          expect((await readBytes(device, 0, SIZE)).equals(model)).toBe(true);
          await client.close();
          await settle();
          expect([server.clients(), faults]).toEqual([[], []]);
        },
      ),
      { numRuns: 25 },
    );
  });
});
