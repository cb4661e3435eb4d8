/**
 * How many connections an upstream gets, what guests are told, and which connections a flush goes to. Pure.
 *
 * The modes are those of the multi-conn filter. Where upstream's connections do not see each other's writes
 * (`emulate`), each range of the disk is bound to one connection (placement.ts), so that no read is ever stale;
 * what is left to do is to flush every connection that was written to.
 */
import { type Abilities } from '@rephub/nbd';
import { ConfigFault } from '@rephub/platform';

export type MultiConnMode = 'auto' | 'plugin' | 'disable' | 'emulate' | 'unsafe';
export type TrackDirty = 'fast' | 'connection' | 'off';

export interface PoolPlan {
  /** Connections at most. */
  readonly most: number;
  /** Connections without which nothing passes. */
  readonly needed: number;
  /** Ranges are bound to connections, and a flush goes to each. */
  readonly placed: boolean;
  /** CAN_MULTI_CONN towards guests. */
  readonly advertised: boolean;
}

/** Throws a ConfigFault where upstream cannot be had in this mode. */
export function planPool(mode: MultiConnMode, connections: number, upstream: Abilities): PoolPlan {
  const { flush, multiConn } = upstream;
  const one = { most: 1, needed: 1, placed: false };
  const spread = { most: connections, needed: 1, placed: false };
  switch (mode) {
    case 'auto':
      // All guests share this pool, so a flush by one covers the writes of all, whatever upstream says of itself.
      return { ...(multiConn ? spread : one), advertised: flush || multiConn };
    case 'plugin':
      return { ...(multiConn ? spread : one), advertised: multiConn };
    case 'disable':
      return { ...one, advertised: false };
    case 'unsafe':
      return { ...spread, advertised: true };
    case 'emulate':
      if (!flush) {
        throw new ConfigFault(
          'multi-conn-needs-flush',
          '--multi-conn emulate: upstream has no flush to emulate it with',
        );
      }
      return { most: connections, needed: connections, placed: connections > 1, advertised: true };
  }
}

/** Something that is flushed. */
export interface Flushable {
  readonly isDirty: boolean;
}

/**
 * The connections that a flush goes to; none: nothing was written since the last one.
 * `fast` looks whether any connection was written to, `connection` at each by itself, `off` not at all.
 */
export function lanesToFlush<L extends Flushable>(
  lanes: readonly L[],
  placed: boolean,
  track: TrackDirty,
): readonly L[] {
  if (track !== 'off' && !lanes.some(({ isDirty }) => isDirty)) return [];
  if (!placed) return lanes.slice(0, 1);
  return track === 'connection' ? lanes.filter(({ isDirty }) => isDirty) : lanes;
}
