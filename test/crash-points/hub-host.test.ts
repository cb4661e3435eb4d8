/**
 * The same scripts, and the hub's host losing power at the 1st, 2nd, … n-th change of its disk: what is left is judged
 * (DURABLE, TORN, LASTGOOD, PIT), the hub comes back while the guest goes on, and must converge.
 */
import { expect, it } from 'vitest';
import { disturbEverywhere, fateAt, SCRIPTS } from './scripts.js';

it.each(SCRIPTS.map((script) => [script.name, script] as const))(
  'DURABLE, TORN, LASTGOOD: the hub’s host crashes at every change of its disk during %s',
  async (_name, script) => {
    const points = await disturbEverywhere(script, {
      name: 'the hub’s host crashes',
      arm: (world, point) => world.crashHubHostAt(point, fateAt(point)),
    });
    expect(points).toBeGreaterThan(3);
  },
  300_000,
);
