/** Above this much queued for sending a connection is congested. */
export const HIGH_WATER_BYTES = 1024 * 1024;
/** Below this much it is not any more. */
export const LOW_WATER_BYTES = 256 * 1024;
