/**
 * A connection to an NBD server, past negotiation: a BlockDevice whose requests go over the wire.
 *
 * Always holds:
 *  - a request is completed exactly once, or given back by `takeUnfinished`;
 *  - the first thing that is wrong with the connection makes it dead for good: nothing more is read or sent;
 *  - requests are sent in the order of `submit`, payload as the slices it is.
 * It splits, aligns and repeats nothing: whoever stands above does.
 */
import { asError, type Clock, type Connection, type Fault, LinkFault, ProtocolFault } from '@rephub/platform';
import {
  type Abilities,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  type Limits,
  NbdError,
} from '../block-device.js';
import { ReplyReader } from '../wire/reply-reader.js';
import { RequestWriter } from '../wire/request-writer.js';
import { isFault } from '../wire/stream-reader.js';
import { InFlight } from './in-flight.js';
import { LONG_BYTES, LongEffect, partBytes } from './long-effect.js';
import type { ServedExport } from './negotiation.js';
import { ReplyHandler } from './reply-handler.js';
import { RequestWatch } from './request-watch.js';

export interface NbdClientOptions {
  /** A request unanswered for so long makes the connection dead (`request-timeout`). Null: never. */
  readonly requestTimeoutMs: number | null;
  /** Does the server answer who connects now? Asked before a flush that takes longer is given up. Never rejects. */
  readonly isThere: (timeoutMs: number) => Promise<boolean>;
  readonly lost: (fault: Fault) => void;
}

/** How long a server may take to close after our goodbye. */
const GOODBYE_MS = 2_000;
const MAX_UINT32 = 0xffff_ffff;

export class NbdClient implements BlockDevice {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  /** The export's full name, as the server told it, else as it was asked for. */
  readonly exportName: string;
  /** As the server told it; empty when it did not. */
  readonly description: string;
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #options: NbdClientOptions;
  readonly #inFlight = new InFlight();
  readonly #reader: ReplyReader;
  readonly #writer: RequestWriter;
  readonly #maxEffect: number;
  #state: 'open' | 'closing' | 'closed' | 'dead' = 'open';
  #fault: Fault | null = null;
  #isGone = false;
  #idle: (() => void) | null = null;
  #gone: (() => void) | null = null;
  #closing: Promise<void> | null = null;
  readonly #watch: RequestWatch | null;

  /** Made by connectNbd, which hands the connection over. */
  constructor(connection: Connection, clock: Clock, served: ServedExport, options: NbdClientOptions) {
    this.sizeBytes = served.sizeBytes;
    this.abilities = served.abilities;
    this.limits = served.limits;
    this.exportName = served.name;
    this.description = served.description;
    this.#connection = connection;
    this.#clock = clock;
    this.#options = options;
    this.#reader = new ReplyReader(
      new ReplyHandler(this.#inFlight, served.framing, served.contextNames),
      served.framing,
    );
    this.#writer = new RequestWriter(connection, served.framing === 'extended');
    const { requestTimeoutMs: limitMs, isThere } = options;
    const late = (why: string): void => this.#die(new LinkFault('request-timeout', why), true);
    this.#watch =
      limitMs === null ? null : new RequestWatch({ clock, limitMs, inFlight: this.#inFlight, isThere, late });
    this.#maxEffect = served.framing === 'extended' ? Number.MAX_SAFE_INTEGER : MAX_UINT32;
  }

  /** Requests submitted and not completed. */
  get inFlight(): number {
    return this.#inFlight.count;
  }

  /** Why the connection is dead; null while it lives, and after an orderly close. */
  get fault(): Fault | null {
    return this.#fault;
  }

  /**
   * On a dead or closing client the request is completed with ESHUTDOWN at once; what the server does not
   * offer with EINVAL.
   */
  submit(request: BlockRequest): void {
    if (this.#state !== 'open') {
      request.complete(NbdError.Eshutdown);
      return;
    }
    if (!this.#canSend(request)) {
      request.complete(NbdError.Einval);
      return;
    }
    if (request.length > LONG_BYTES && request.command !== Command.BlockStatus) {
      const mostBytes = partBytes(request, this.#maxEffect, this.#options.requestTimeoutMs !== null);
      if (request.length > mostBytes) {
        new LongEffect(request, mostBytes, (part) => this.submit(part)).start();
        return;
      }
    }
    const slot = this.#inFlight.add(request);
    this.#writer.request(request, this.#inFlight.generationOf(slot), slot);
    this.#watch?.begin();
  }

  /**
   * The requests in flight in the order they were submitted, given back uncompleted, what they had received
   * emptied: ready to be submitted elsewhere. For use within `lost`, or any time to give a connection up.
   */
  takeUnfinished(): BlockRequest[] {
    const taken = this.#inFlight.removeAll().map((request) => {
      forgetAnswer(request);
      return request.owner instanceof LongEffect ? request.owner.outer : request;
    });
    if (this.#state === 'open' || this.#state === 'closing') {
      this.#die(new LinkFault('given-up', 'the connection was given up'), false);
    }
    return taken;
  }

  /** Waits for what is in flight, says goodbye (NBD_CMD_DISC), closes. Also resolves when the connection is lost. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Gone now, as if the connection had been lost: `lost` is told, what is in flight is completed or taken. */
  destroy(fault: Fault): void {
    this.#die(fault, true);
  }

  /** For connectNbd: the connection's events come here. */
  receiver(): { received(chunk: Buffer): void; drained(): void; ended(): void; closed(error: Error | null): void } {
    return {
      received: (chunk) => this.#received(chunk),
      drained: () => undefined,
      ended: () => this.#ended(),
      closed: (error) => this.#closed(error),
    };
  }

  #canSend(request: BlockRequest): boolean {
    const { abilities } = this;
    if ((request.flags & CommandFlag.Fua) !== 0 && !abilities.fua) return false;
    switch (request.command) {
      case Command.Read:
        return request.length <= MAX_UINT32;
      case Command.Write:
        return !abilities.readOnly && request.length <= MAX_UINT32;
      case Command.Flush:
        return abilities.flush;
      case Command.Trim:
        return abilities.trim;
      case Command.WriteZeroes:
        return abilities.writeZeroes && ((request.flags & CommandFlag.FastZero) === 0 || abilities.fastZero);
      case Command.Cache:
        return abilities.cache;
      case Command.BlockStatus:
        return request.contexts.every((context) => abilities.contexts.includes(context));
    }
  }

  #received(chunk: Buffer): void {
    if (this.#state !== 'open' && this.#state !== 'closing') return;
    try {
      this.#reader.read(chunk);
    } catch (thrown) {
      const error = asError(thrown);
      this.#die(isFault(error) ? error : new ProtocolFault('internal', error.message, { cause: error }), true);
      return;
    }
    if (this.#inFlight.count === 0) this.#wakeIdle();
  }

  #ended(): void {
    if (this.#state === 'closed') this.#connection.destroy();
    else this.#die(new LinkFault('connection-ended', `${this.#connection.peer} ended the connection`), true);
  }

  #closed(error: Error | null): void {
    this.#isGone = true;
    if (this.#state === 'open' || this.#state === 'closing') {
      const text = error === null ? 'closed the connection' : `is lost: ${error.message}`;
      const options = error === null ? {} : { cause: error };
      this.#die(new LinkFault('connection-lost', `${this.#connection.peer} ${text}`, options), true);
    }
    this.#gone?.();
  }

  #die(fault: Fault, isTold: boolean): void {
    if (this.#state === 'dead' || this.#state === 'closed') return;
    this.#state = 'dead';
    this.#fault = fault;
    this.#watch?.stop();
    this.#connection.destroy();
    if (isTold) this.#options.lost(fault);
    for (const request of this.#inFlight.removeAll()) {
      forgetAnswer(request);
      request.complete(NbdError.Eshutdown);
    }
    this.#wakeIdle();
  }

  async #close(): Promise<void> {
    if (this.#state === 'open') this.#state = 'closing';
    if (this.#inFlight.count > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.#watch?.stop();
    if (this.#state === 'closing') {
      this.#state = 'closed';
      this.#writer.disconnect();
      this.#connection.end();
    }
    if (this.#isGone) return;
    const timer = this.#clock.after(GOODBYE_MS, () => this.#connection.destroy());
    await new Promise<void>((resolve) => {
      this.#gone = resolve;
    });
    timer.cancel();
  }

  #wakeIdle(): void {
    const idle = this.#idle;
    this.#idle = null;
    idle?.();
  }
}

/** Back to what it was when it was submitted. */
function forgetAnswer(request: BlockRequest): void {
  if (request.command === Command.Read) request.data = [];
  if (request.extents.length > 0) request.extents = [];
}
