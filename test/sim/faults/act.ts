/** How a step acts upon the world. Details are drawn from the step's own seed. */
import { type SeededRandomness } from '@rephub/platform/sim';
import { type Backups } from '../backups.js';
import { type World } from '../world.js';

/**
 * True: it has acted. What acts only when somebody meets it tells so by `acted`, and returns false. Whatever it takes away it
 * gives back after a while, so that one fault does not hide all later ones.
 */
export type Act = (world: World, random: SeededRandomness, backups: Backups, acted: () => void) => boolean;
