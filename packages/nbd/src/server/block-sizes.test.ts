import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../block-device.js';
import { blockSizes, isUsualBlockSizes } from './block-sizes.js';

it("block sizes are what the specification allows, whatever the device's limits", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 16 }),
      fc.integer({ min: 1, max: 2 ** 22 }),
      fc.integer({ min: 1, max: 2 ** 25 }),
      (power, preferredBytes, most) => {
        const minimum = 2 ** power;
        const told = blockSizes({ minimumBytes: minimum, preferredBytes, maximumBytes: Math.max(most, minimum) });
        expect(told.minimumBytes).toBe(minimum);
        expect(Number.isInteger(Math.log2(told.preferredBytes))).toBe(true);
        expect(told.preferredBytes).toBeGreaterThanOrEqual(Math.max(512, minimum));
        expect(told.maximumBytes).toBeGreaterThanOrEqual(told.preferredBytes);
      },
    ),
  );
});

it('only a smallest block above one byte or a payload below 32 MiB is unusual', () => {
  expect(isUsualBlockSizes(DEFAULT_LIMITS)).toBe(true);
  expect(isUsualBlockSizes({ ...DEFAULT_LIMITS, preferredBytes: 65_536 })).toBe(true);
  expect(isUsualBlockSizes({ ...DEFAULT_LIMITS, minimumBytes: 512 })).toBe(false);
  expect(isUsualBlockSizes({ ...DEFAULT_LIMITS, maximumBytes: 65_536 })).toBe(false);
});
