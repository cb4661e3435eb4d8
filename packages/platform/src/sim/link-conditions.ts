/** How a wire behaves; may be changed at any time. */
export interface LinkConditions {
  latencyMs: number;
  /** Added to the latency of each piece, so that connections overtake one another; never within one. Called for each piece. */
  jitterMs: () => number;
  /** No limit when Infinity. */
  bytesPerMs: number;
  /** The largest piece that arrives at once. Called for each piece. */
  fragmentBytes: () => number;
  /** How long a connection waits to be accepted after the client has it. Called for each. */
  acceptDelayMs: () => number;
}

/** Makes bytes arrive one after the other: `bytesPerMs` of them, in pieces of one millisecond's worth. */
export function drip(conditions: LinkConditions, bytesPerMs: number): void {
  conditions.bytesPerMs = bytesPerMs;
  conditions.fragmentBytes = () => Math.max(1, Math.floor(bytesPerMs));
}
