/**
 * What an agent says of itself until its group is open, while its upstreams may be away: which volume waits for which
 * upstream, since when, how often that was tried, what came of the last try.
 *
 * Always holds: what is not known before the state directory is read is null, never nothing or zero.
 * Must not know: who asks.
 */
import { type Clock, LinkFault } from '@rephub/platform';
import { type AgentConfig } from './config.js';
import { type StartingStatus } from './status/report.js';

/** Who is told how the opening of the upstreams gets on, each named by its position in the configuration. */
export interface UpstreamsAwaited {
  trying(position: number): void;
  failed(position: number, reason: string): void;
  opened(position: number, sizeBytes: number): void;
}

interface Awaited {
  readonly volume: string;
  readonly uri: string;
  /** Null before it is its turn. */
  since: { readonly unixMs: number; readonly monotonicMs: number } | null;
  tries: number;
  /** What the last try came to; null while none has failed. */
  reason: string | null;
  /** Null until it is open. */
  sizeBytes: number | null;
}

export class Starting implements UpstreamsAwaited {
  readonly #clock: Clock;
  readonly #config: AgentConfig;
  readonly #volumes: readonly Awaited[];

  constructor(clock: Clock, config: AgentConfig) {
    this.#clock = clock;
    this.#config = config;
    this.#volumes = config.volumes.map(({ name, upstream }) => ({
      ...{ volume: name, uri: upstream },
      ...{ since: null, tries: 0, reason: null, sizeBytes: null },
    }));
  }

  trying(position: number): void {
    const volume = this.#volumes[position];
    if (volume === undefined) return;
    volume.since ??= { unixMs: this.#clock.unixMs(), monotonicMs: this.#clock.monotonicMs() };
    volume.tries++;
  }

  failed(position: number, reason: string): void {
    const volume = this.#volumes[position];
    if (volume !== undefined) volume.reason = reason;
  }

  opened(position: number, sizeBytes: number): void {
    const volume = this.#volumes[position];
    if (volume !== undefined) volume.sizeBytes = sizeBytes;
  }

  /** Nothing is held yet that would have to be let go in order. */
  get isWaiting(): boolean {
    return this.#waitedFor !== null;
  }

  /** They are opened one after the other. */
  get #waitedFor(): Awaited | null {
    return this.#volumes.find(({ sizeBytes }) => sizeBytes === null) ?? null;
  }

  get reason(): string {
    const waited = this.#waitedFor;
    if (waited === null) return 'starting: the state directory is being opened';
    const { volume, uri, since, tries, reason } = waited;
    if (since === null || reason === null) return `starting: upstream ${uri} of ${volume} is being opened`;
    const begun = new Date(since.unixMs).toISOString();
    return `waiting since ${begun} for upstream ${uri} of ${volume}, tried ${tries} times: ${reason}`;
  }

  /** The answer to what only an open group can do. */
  refusal(): LinkFault {
    return new LinkFault('agent-starting', `${this.reason}; try again when the agent serves guests`);
  }

  status(): StartingStatus {
    const { group, mode, hubs } = this.#config;
    const hasHub = hubs.length > 0;
    return {
      name: group,
      starting: true,
      state: hasHub ? 'unknown' : 'unprotected',
      reason: this.reason,
      mode,
      ...{ effectiveMode: null, rpoSeconds: null, lagBytes: null, seq: null, durableSeq: null, generation: null },
      ...{ agentConnected: false, lastResync: null, resync: null, failover: null, divergence: null, tests: [] },
      volumes: this.#volumes.map(({ volume, sizeBytes }) => ({ name: volume, sizeBytes })),
      upstream: this.#volumes.map((volume) => this.#describe(volume)),
      hub: hasHub ? { urls: hubs, connected: false, reason: 'not looked for before the upstreams are there' } : null,
      ...{ clients: [], dirtyBytes: null, hotExtents: null },
    };
  }

  #describe({ volume, uri, since, tries, reason, sizeBytes }: Awaited): StartingStatus['upstream'][number] {
    const up = sizeBytes !== null;
    return {
      ...{ volume, uri, up },
      state: up ? 'up' : 'awaited',
      reason: up ? null : reason,
      tries,
      since: since === null ? null : new Date(since.unixMs).toISOString(),
      awaitedSeconds: up || since === null ? 0 : (this.#clock.monotonicMs() - since.monotonicMs) / 1000,
    };
  }
}
