/**
 * The upstream disk of one volume, behind a connection that may be lost: requests in flight are sent
 * again on the next connection, new ones wait, until the configured number of tries is used up; then they
 * fail with EIO, and trying goes on (promise OUTAGE).
 *
 * Always holds: requests are sent again in the order in which they were first submitted, before any that came
 * later; an upstream that returns with another size or read-only is refused. Writes that were
 * acknowledged and not flushed when the connection was lost may be gone: `mayHaveLost` is told.
 */
import { type Abilities, type BlockDevice, type BlockRequest, type Limits, NbdError } from '@rephub/nbd';
import { asError, type Clock, ConfigFault, Fault, type Logger } from '@rephub/platform';

export interface RetryPolicy {
  /** Tries after the first; Infinity: for ever. */
  readonly retries: number;
  readonly delayMs: number;
  /** The delay doubles from try to try. */
  readonly exponential: boolean;
}

/** Opens one connection; `lost` is called once when it dies, with a way to take back what was in flight. */
export type OpenUpstream = (lost: (fault: Fault) => void) => Promise<UpstreamConnection>;

export interface UpstreamConnection extends BlockDevice {
  /** Requests in flight in their order, uncompleted; for `lost`. */
  takeUnfinished?(): BlockRequest[];
}

export interface UpstreamParts {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly policy: RetryPolicy;
  readonly open: OpenUpstream;
  /** The connection was lost: writes since the last completed flush may be lost with it. */
  readonly mayHaveLost: () => void;
}

const LONGEST_DELAY_MS = 60_000;

export class Upstream implements BlockDevice {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly #parts: UpstreamParts;
  #connection: UpstreamConnection | null;
  /** Waiting for the next connection, oldest first. */
  #waiting: BlockRequest[] = [];
  #failures = 0;
  #closed = false;
  #reconnects = 0;
  #reason: string | null = null;

  /** Opens the first connection; its failure is thrown. */
  static async open(parts: UpstreamParts): Promise<Upstream> {
    const { connection, watch } = await openWatched(parts.open);
    if (connection.abilities.readOnly) {
      throw new ConfigFault(
        'upstream-read-only',
        `upstream of ${parts.name} is read-only; a protected disk must be writable`,
      );
    }
    const upstream = new Upstream(parts, connection);
    watch((fault) => {
      upstream.#lost(connection, fault);
    });
    return upstream;
  }

  private constructor(parts: UpstreamParts, connection: UpstreamConnection) {
    this.#parts = parts;
    this.#connection = connection;
    this.sizeBytes = connection.sizeBytes;
    this.abilities = connection.abilities;
    this.limits = connection.limits;
  }

  /** `up`, or why it is not. */
  get status(): { readonly up: boolean; readonly reason: string | null; readonly reconnects: number } {
    return { up: this.#connection !== null, reason: this.#reason, reconnects: this.#reconnects };
  }

  submit(request: BlockRequest): void {
    const connection = this.#connection;
    if (connection === null) {
      this.#whileAway(request);
      return;
    }
    connection.submit(request);
  }

  #whileAway(request: BlockRequest): void {
    if (this.#closed) request.complete(NbdError.Eshutdown);
    else if (this.#failures > this.#parts.policy.retries) request.complete(NbdError.Eio);
    else this.#waiting.push(request);
  }

  /** Waits for upstream no longer: what waits, and what comes while it is away, fails with ESHUTDOWN. */
  giveUp(): void {
    this.#closed = true;
    this.#failWaiting(NbdError.Eshutdown);
  }

  /** Lets the connection go; what is in flight is completed first. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#failWaiting(NbdError.Eshutdown);
    const connection = this.#connection;
    this.#connection = null;
    if (connection !== null) await connection.close();
  }

  #lost(connection: UpstreamConnection, fault: Fault): void {
    if (this.#connection !== connection && this.#connection !== null) return;
    this.#waiting = [...(connection.takeUnfinished?.() ?? []), ...this.#waiting];
    this.#connection = null;
    if (this.#closed) {
      this.#failWaiting(NbdError.Eshutdown);
      return;
    }
    this.#reason = fault.message;
    this.#parts.log.warn('upstream-lost', { volume: this.#parts.name, code: fault.code, reason: fault.message });
    this.#parts.mayHaveLost();
    this.#failures = 0;
    this.#tryAgain(0);
  }

  #tryAgain(delayMs: number): void {
    this.#parts.clock.after(delayMs, () => {
      if (!this.#closed) void this.#reconnect();
    });
  }

  async #reconnect(): Promise<void> {
    const { policy, name, log } = this.#parts;
    try {
      const { connection, watch } = await openWatched(this.#parts.open);
      await this.#checkReturned(connection);
      watch((fault) => {
        this.#lost(connection, fault);
      });
      this.#resumeOn(connection);
    } catch (thrown) {
      const fault = asError(thrown);
      this.#failures++;
      this.#reason = fault.message;
      log.warn('upstream-unreachable', { volume: name, tries: this.#failures, reason: fault.message });
      if (this.#failures > policy.retries) this.#failWaiting(NbdError.Eio);
      const doublings = policy.exponential ? Math.min(this.#failures - 1, 20) : 0;
      this.#tryAgain(Math.min(policy.delayMs * 2 ** doublings, LONGEST_DELAY_MS));
    }
  }

  async #checkReturned(connection: UpstreamConnection): Promise<void> {
    let complaint: string | null = null;
    if (connection.sizeBytes !== this.sizeBytes) {
      complaint = `came back with ${connection.sizeBytes} bytes instead of ${this.sizeBytes}`;
    } else if (connection.abilities.readOnly) {
      complaint = 'came back read-only';
    }
    if (complaint === null) return;
    await connection.close();
    throw new Fault('storage', 'upstream-changed', `upstream of ${this.#parts.name} ${complaint}; not used`);
  }

  #resumeOn(connection: UpstreamConnection): void {
    this.#connection = connection;
    this.#failures = 0;
    this.#reason = null;
    this.#reconnects++;
    const again = this.#waiting;
    this.#waiting = [];
    this.#parts.log.info('upstream-back', { volume: this.#parts.name, requests: again.length });
    for (const request of again) this.submit(request);
  }

  #failWaiting(error: number): void {
    const failed = this.#waiting;
    this.#waiting = [];
    for (const request of failed) request.complete(error);
  }
}

/** Opens a connection whose loss is not missed, even when it comes before anybody watches. */
async function openWatched(
  open: OpenUpstream,
): Promise<{ connection: UpstreamConnection; watch: (lost: (fault: Fault) => void) => void }> {
  const seen: { fault: Fault | null; tell: ((fault: Fault) => void) | null } = { fault: null, tell: null };
  const connection = await open((fault) => {
    seen.fault = fault;
    seen.tell?.(fault);
  });
  return {
    connection,
    watch: (lost) => {
      seen.tell = lost;
      if (seen.fault !== null) lost(seen.fault);
    },
  };
}
