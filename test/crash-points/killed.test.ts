/**
 * The same scripts, and one of the processes killed (SIGKILL) at an await: before it takes a step, a timer, a
 * completion, a chunk. Its host goes on, what it wrote is in the page cache; it is started again, the guest waits.
 */
import { expect, it } from 'vitest';
import { disturbEverywhere, SCRIPTS } from './scripts.js';

/** Steps from point to point: there are some hundreds in a script. */
const STRIDE = 11;

it.each(SCRIPTS.filter(({ begins }) => begins === 'in step').map((script) => [script.name, script] as const))(
  'SUPERSET, NOFULL, DURABLE: agent and hub killed at an await during %s',
  async (_name, script) => {
    const ofAgent = await disturbEverywhere(
      script,
      { name: 'the agent is killed', arm: (world, point) => world.killAgentAtStep(point) },
      STRIDE,
    );
    const ofHub = await disturbEverywhere(
      script,
      { name: 'the hub is killed', arm: (world, point) => world.killHubAtStep(point) },
      STRIDE,
    );
    expect(ofAgent + ofHub).toBeGreaterThan(2 * STRIDE);
  },
  300_000,
);
