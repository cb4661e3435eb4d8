/**
 * Short scripts, and the agent's host (its disk, its marks, the guest) losing power at the 1st, 2nd, … n-th change of
 * its disk: what is left is judged (SUPERSET, NOFULL, FLUSH), everything starts again, and must converge.
 */
import { expect, it } from 'vitest';
import { disturbEverywhere, fateAt, SCRIPTS } from './scripts.js';

it.each(SCRIPTS.map((script) => [script.name, script] as const))(
  'SUPERSET, NOFULL, FLUSH: the agent’s host crashes at every change of its disk during %s',
  async (_name, script) => {
    const points = await disturbEverywhere(script, {
      name: 'the agent’s host crashes',
      arm: (world, point) => world.crashAgentHostAt(point, fateAt(point)),
      // Every third time once more, while it recovers.
      again: (world, point) => {
        if (point % 3 === 0) world.crashAgentHostAt(1 + ((point / 3) % 40), fateAt(point + 1));
      },
    });
    expect(points).toBeGreaterThan(3);
  },
  300_000,
);
