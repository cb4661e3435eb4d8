/**
 * What each kind of step does to the world.
 *
 * Always holds: a step counts when it has acted, not when it found nothing to act upon.
 */
import { SeededRandomness } from '@rephub/platform/sim';
import { type Backups } from '../backups.js';
import { type Step } from '../script.js';
import { type StepKind } from '../step-kinds.js';
import { type World } from '../world.js';
import { type Act } from './act.js';
import { LINK_FAULTS } from './link-faults.js';
import { PEOPLE } from './people.js';
import { PROCESS_FAULTS } from './process-faults.js';
import { STORAGE_FAULTS } from './storage-faults.js';
import { UPSTREAM_FAULTS } from './upstream-faults.js';

const ACTS: Record<StepKind, Act> = {
  ...PEOPLE,
  ...LINK_FAULTS,
  ...PROCESS_FAULTS,
  ...UPSTREAM_FAULTS,
  ...STORAGE_FAULTS,
};

export function act(world: World, step: Step, backups: Backups): void {
  world.trace.add(`step ${step.kind}`);
  let isCounted = false;
  const acted = (): void => {
    if (!isCounted) world.coverage.fault(step.kind);
    isCounted = true;
  };
  if (ACTS[step.kind](world, new SeededRandomness(step.seed), backups, acted)) acted();
}
