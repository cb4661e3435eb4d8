/** Promises that the project is only about to keep: what the simulator does not expect yet. Change it with the work that builds them. */

/** Without it what an upstream loses with its cache is lost to the guest too, whose next flush fails. */
export const REPLAY_IS_BUILT = true as boolean;
