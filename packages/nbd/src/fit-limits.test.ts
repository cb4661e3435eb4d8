import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockDevice, type BlockRequest, Command, CommandFlag, DEFAULT_LIMITS, NbdError } from './block-device.js';
import { fitLimits } from './fit-limits.js';
import { memoryDevice } from './memory-device.js';
import { blockStatus, DeviceError, flushDevice, readBytes, trimRange, writeBytes, zeroRange } from './promised.js';
import { checkRequest } from './server/request-check.js';

const SIZE = 256 * 1024;

/** A strict device: insists on its limits, answers late and out of order. */
class StrictDevice implements BlockDevice {
  readonly inner = memoryDevice(SIZE, { limits: { minimumBytes: 4096, maximumBytes: 16_384 } });
  readonly sizeBytes = SIZE;
  readonly abilities = this.inner.abilities;
  readonly limits = this.inner.limits;
  most = 0;
  #waiting: BlockRequest[] = [];
  #isDue = false;

  submit(request: BlockRequest): void {
    const rules = {
      sizeBytes: SIZE,
      abilities: this.abilities,
      limits: this.limits,
      framing: 'structured' as const,
      contexts: 1,
    };
    const error = checkRequest(rules, {
      type: request.command,
      flags: request.flags,
      offset: request.offset,
      length: request.length,
      payloadBytes: 0,
    });
    expect(error, `${request.command} ${request.offset} ${request.length}`).toBe(0);
    this.#waiting.push(request);
    this.most = Math.max(this.most, this.#waiting.length);
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      for (const one of this.#waiting.splice(0).reverse()) this.inner.submit(one);
    });
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

const operation = fc.record({
  kind: fc.constantFrom('write', 'zero', 'read', 'flush'),
  offset: fc.nat(SIZE - 1),
  length: fc.integer({ min: 1, max: 60_000 }),
  fill: fc.nat(255),
});

describe('fitted limits', () => {
  it('a device that fits already is left alone', () => {
    const device = memoryDevice(SIZE);
    expect(fitLimits(device, DEFAULT_LIMITS)).toBe(device);
  });

  it('any requests one after the other do what they would on a device without limits', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
        const fitted = fitLimits(new StrictDevice(), DEFAULT_LIMITS);
        const oracle = Buffer.alloc(SIZE);
        for (const { kind, offset, length, fill } of operations) {
          const end = Math.min(SIZE, offset + length);
          if (kind === 'write') {
            await writeBytes(fitted, offset, Buffer.alloc(end - offset, fill), fill % 2 === 0);
            oracle.fill(fill, offset, end);
          } else if (kind === 'zero') {
            await zeroRange(fitted, offset, end - offset, fill % 2 === 0 ? CommandFlag.NoHole : 0);
            oracle.fill(0, offset, end);
          } else if (kind === 'flush') await flushDevice(fitted);
          else expect((await readBytes(fitted, offset, end - offset)).equals(oracle.subarray(offset, end))).toBe(true);
        }
        expect((await readBytes(fitted, 0, SIZE)).equals(oracle)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('neighbours in one block written at once are none of them lost', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 40 }),
        async (lengths) => {
          const device = new StrictDevice();
          const fitted = fitLimits(device, DEFAULT_LIMITS);
          const expected = Buffer.alloc(SIZE);
          let offset = 0;
          const writes: Promise<void>[] = [];
          for (const [index, length] of lengths.entries()) {
            expected.fill(index + 1, offset, offset + length);
            writes.push(writeBytes(fitted, offset, Buffer.alloc(length, index + 1)));
            offset += length;
          }
          await Promise.all(writes);
          expect((await readBytes(fitted, 0, SIZE)).equals(expected)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('trims only whole blocks, maps what was asked for, and says no to fast zeroing of parts', async () => {
    const device = new StrictDevice();
    const fitted = fitLimits(device, DEFAULT_LIMITS);
    await writeBytes(fitted, 0, Buffer.alloc(SIZE, 1));
    await trimRange(fitted, 65_000, 70_000);
    const bytes = await readBytes(fitted, 65_000, 70_000);
    expect([bytes.indexOf(0), bytes.lastIndexOf(0)]).toEqual([65_536 - 65_000, 131_072 - 65_001 + 0]);
    await trimRange(fitted, 1, 100);
    const { runs } = await blockStatus(fitted, 65_537, 10, 'base:allocation');
    expect([runs[0], runs[1]]).toEqual([4095, 3]);
    const error = await zeroRange(fitted, 1, 100, CommandFlag.FastZero).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ nbdError: NbdError.Enotsup });
  });

  it('an error of any piece is the error of the whole', async () => {
    const memory = memoryDevice(SIZE, { limits: { maximumBytes: 4096 } });
    const failing: BlockDevice = {
      sizeBytes: SIZE,
      abilities: memory.abilities,
      limits: memory.limits,
      close: () => memory.close(),
      submit: (request) => {
        if (request.command === Command.Write && request.offset === 8192) request.complete(NbdError.Enospc);
        else memory.submit(request);
      },
    };
    const fitted = fitLimits(failing, DEFAULT_LIMITS);
    const error = await writeBytes(fitted, 0, Buffer.alloc(20_000)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DeviceError);
    expect(error).toMatchObject({ nbdError: NbdError.Enospc });
    await fitted.close();
  });
});
