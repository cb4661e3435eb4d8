import type { Address, Clock, Connection, Listener, Network } from '@rephub/platform';
import type { ExportDirectory } from './exports.js';
import type { ServerFault, ServerLimits } from './limits.js';

export interface NbdServerOptions {
  readonly platform: { readonly clock: Clock; readonly network: Network };
  readonly exports: ExportDirectory;
  /** Those left out are as in DEFAULT_SERVER_LIMITS. */
  readonly limits?: Partial<ServerLimits>;
  /** Called for every connection that was ended because of what the client did. */
  readonly onFault?: (fault: ServerFault) => void;
  /** Called when a client starts and ends using an export. */
  readonly onClient?: (event: 'begun' | 'gone', client: ServedClient) => void;
}

/** One connection, for status pages. */
export interface ServedClient {
  readonly id: number;
  readonly peer: string;
  /** Null while it negotiates. */
  readonly exportName: string | null;
  readonly requestsInFlight: number;
  readonly bytesInFlight: number;
  /** Requests answered so far. */
  readonly requestsDone: number;
}

export class NbdServer {
  constructor(options: NbdServerOptions) {
    void options;
    throw new Error('not built yet');
  }
  /** Listens on one more address. Throws the ConfigFault of Network.listen. */
  listen(address: Address): Promise<Listener> {
    void address;
    throw new Error('not built yet');
  }
  /** Serves a connection that came in some other way. */
  accept(connection: Connection): void {
    void connection;
  }
  clients(): ServedClient[] {
    return [];
  }
  /** No new connections, no new requests; what is in flight is answered; then, or after `graceMs`, all are closed. */
  close(graceMs: number): Promise<void> {
    void graceMs;
    throw new Error('not built yet');
  }
}
