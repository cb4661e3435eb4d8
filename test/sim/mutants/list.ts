/** The planted bugs, at least one for each promise that is checked. */
import { AGENT_BUGS } from './agent-bugs.js';
import { HUB_BUGS } from './hub-bugs.js';
import { type Mutant } from './mutant.js';

export const MUTANTS: readonly Mutant[] = [...AGENT_BUGS, ...HUB_BUGS];
