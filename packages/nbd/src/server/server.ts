/**
 * The NBD server: accepts connections, takes each through negotiation and transmission, keeps count, and
 * closes in an orderly way.
 *
 * Always holds: what one client does ends at most its own connection; an export is released once its
 * client is gone; the number of connections is bounded. Knows no exports but by its directory.
 */
import {
  type Address,
  asError,
  type Clock,
  type Connection,
  type Listener,
  LinkFault,
  type Network,
  PayloadBudget,
} from '@rephub/platform';
import { isFault, StreamReader } from '../wire/stream-reader.js';
import type { ExportDirectory } from './exports.js';
import { DEFAULT_SERVER_LIMITS, type ServerFault, type ServerFaultCode, type ServerLimits } from './limits.js';
import { ServerNegotiation } from './negotiation.js';
import { type ServerLoad, Transmission } from './transmission.js';

export interface NbdServerOptions {
  readonly platform: { readonly clock: Clock; readonly network: Network };
  readonly exports: ExportDirectory;
  /** Those left out are as in DEFAULT_SERVER_LIMITS. */
  readonly limits?: Partial<ServerLimits>;
  /** For write payloads that have not come whole, where several servers share one; else the server has its own. */
  readonly payloads?: PayloadBudget;
  /** Called for every connection that was ended because of what the client did, or what went wrong in it. */
  readonly onFault?: (fault: ServerFault) => void;
}

/** One connection, for status pages. */
export interface ServedClient {
  readonly peer: string;
  /** Null while it negotiates. */
  readonly exportName: string | null;
  readonly requestsInFlight: number;
  readonly bytesInFlight: number;
  /** Requests answered so far. */
  readonly requestsDone: number;
}

/** After our end, how long the client may take to end as well. */
const LINGER_MS = 2_000;

interface Session {
  readonly id: number;
  readonly connection: Connection;
  exportName: string | null;
  transmission: Transmission | null;
  negotiation: ServerNegotiation | null;
  /** The connection closed while it negotiated. */
  isGone: boolean;
  /** It is being negotiated: whatever was opened for it is not released yet. */
  isBusy: boolean;
}

export class NbdServer {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #exports: ExportDirectory;
  readonly #limits: ServerLimits;
  readonly #onFault: (fault: ServerFault) => void;
  readonly #listeners = new Set<Listener>();
  readonly #sessions = new Map<number, Session>();
  readonly #load: ServerLoad;
  #nextId = 1;
  #closing: Promise<void> | null = null;
  #emptied: (() => void) | null = null;

  constructor(options: NbdServerOptions) {
    this.#clock = options.platform.clock;
    this.#network = options.platform.network;
    this.#exports = options.exports;
    this.#limits = { ...DEFAULT_SERVER_LIMITS, ...options.limits };
    this.#load = { requestsInFlight: 0, payloads: options.payloads ?? new PayloadBudget(this.#clock) };
    this.#onFault = options.onFault ?? (() => undefined);
  }

  /** Of all clients together. */
  get requestsInFlight(): number {
    return this.#load.requestsInFlight;
  }

  /** Listens on one more address. Throws the ConfigFault of Network.listen. */
  async listen(address: Address): Promise<Listener> {
    const listener = await this.#network.listen(address, (connection) => this.accept(connection));
    this.adopt(listener);
    return listener;
  }

  /** Closes this listener too when the server closes: for sockets that somebody else opened (LISTEN_FDS). */
  adopt(listener: Listener): void {
    if (this.#closing !== null) void listener.close();
    else this.#listeners.add(listener);
  }

  /** Serves a connection, however it came in. */
  accept(connection: Connection): void {
    const id = this.#nextId++;
    if (this.#closing !== null) {
      connection.start(DEAF);
      connection.destroy();
      return;
    }
    if (this.#sessions.size >= this.#limits.connections) {
      connection.start(DEAF);
      connection.destroy();
      this.#report('too-many-connections', connection.peer, `${this.#limits.connections} connections are open`);
      return;
    }
    const session: Session = {
      id,
      connection,
      exportName: null,
      transmission: null,
      negotiation: null,
      isGone: false,
      isBusy: true,
    };
    this.#sessions.set(id, session);
    void this.#serve(session);
  }

  clients(): ServedClient[] {
    return [...this.#sessions.values()].map(viewOf);
  }

  /**
   * No new connections and no new requests; what is in flight is answered. Then, or after `graceMs`, all
   * connections are closed. Resolves when every export has been released; a device that never answers
   * keeps it waiting.
   */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#shutDown(graceMs);
    return this.#closing;
  }

  async #shutDown(graceMs: number): Promise<void> {
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    const timer = this.#clock.after(graceMs, () => {
      for (const session of this.#sessions.values()) session.connection.destroy();
    });
    for (const session of [...this.#sessions.values()]) {
      if (session.transmission !== null) session.transmission.finish();
      else session.negotiation?.finish();
    }
    await Promise.all(listeners.map((listener) => listener.close()));
    if (this.#sessions.size > 0) {
      await new Promise<void>((resolve) => {
        this.#emptied = resolve;
      });
    }
    timer.cancel();
  }

  async #serve(session: Session): Promise<void> {
    const { connection } = session;
    const reader = new StreamReader(connection, () => {
      session.isGone = true;
      if (!session.isBusy) this.#forget(session);
    });
    const timer = this.#clock.after(this.#limits.negotiationMs, () => {
      reader.fail(new LinkFault('negotiation-timeout', `no export chosen within ${this.#limits.negotiationMs} ms`));
    });
    try {
      const negotiation = new ServerNegotiation(reader, this.#exports, (error) => {
        this.#report('internal', connection.peer, `opening an export failed: ${error.message}`);
      });
      session.negotiation = negotiation;
      const negotiated = await negotiation.run();
      session.negotiation = null;
      if (negotiated !== null) {
        this.#transmit(session, reader, negotiated);
        return;
      }
      this.#endSoftly(connection);
    } catch (thrown) {
      this.#negotiationFailed(session, asError(thrown));
    } finally {
      timer.cancel();
    }
    session.isBusy = false;
    session.negotiation = null;
    if (session.isGone) this.#forget(session);
  }

  #transmit(
    session: Session,
    reader: StreamReader,
    negotiated: NonNullable<Awaited<ReturnType<ServerNegotiation['run']>>>,
  ): void {
    const { connection } = session;
    const { opened } = negotiated;
    const transmission = new Transmission(connection, negotiated, this.#limits, this.#load, {
      fault: (code, message) => this.#report(code, connection.peer, message),
      finished: () => this.#endSoftly(connection),
      gone: () => {
        opened.release();
        this.#forget(session);
      },
    });
    session.transmission = transmission;
    session.exportName = opened.name;
    reader.handOver(transmission, { counted: true });
    if (this.#closing !== null) transmission.finish();
  }

  #negotiationFailed(session: Session, error: Error): void {
    const { connection } = session;
    const code = isFault(error) ? error.code : 'internal';
    if (code === 'server-closing') {
      this.#endSoftly(connection);
      return;
    }
    connection.destroy();
    this.#report(NEGOTIATION_CODES[code] ?? 'link-error', connection.peer, error.message);
  }

  /** Sends what is queued and our end; a client that does not end as well is cut off. */
  #endSoftly(connection: Connection): void {
    connection.end();
    this.#clock.after(LINGER_MS, () => connection.destroy());
  }

  #forget(session: Session): void {
    this.#sessions.delete(session.id);
    if (this.#sessions.size === 0) {
      this.#emptied?.();
      this.#emptied = null;
    }
  }

  #report(code: ServerFaultCode, peer: string, message: string): void {
    this.#onFault({ code, peer, message });
  }
}

const NEGOTIATION_CODES: Readonly<Record<string, ServerFaultCode>> = {
  'bad-client-flags': 'bad-client-flags',
  'bad-option-magic': 'bad-option-magic',
  'option-too-long': 'option-too-long',
  'too-many-options': 'too-many-options',
  'export-refused': 'export-refused',
  'negotiation-timeout': 'negotiation-timeout',
  'connection-ended': 'negotiation-cut',
  internal: 'internal',
};

const DEAF = {
  received: () => undefined,
  drained: () => undefined,
  ended: () => undefined,
  closed: () => undefined,
};

function viewOf(session: Session): ServedClient {
  const { connection, exportName, transmission } = session;
  return {
    peer: connection.peer,
    exportName,
    requestsInFlight: transmission?.requestsInFlight ?? 0,
    bytesInFlight: transmission?.bytesInFlight ?? 0,
    requestsDone: transmission?.requestsDone ?? 0,
  };
}
