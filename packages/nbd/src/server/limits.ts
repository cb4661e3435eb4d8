/** What one client, and all of them, may take of a server. */
export interface ServerLimits {
  /** Requests of one client that wait for the device; reading stops at it. */
  readonly requestsInFlight: number;
  /** Payload bytes of one client in those, reads and writes; one request is always let in. */
  readonly bytesInFlight: number;
  /** From the connection to the first request; then the connection is ended. */
  readonly negotiationMs: number;
  /** Open connections of all listeners; more are closed at once. */
  readonly connections: number;
}

export const DEFAULT_SERVER_LIMITS: ServerLimits = {
  requestsInFlight: 256,
  bytesInFlight: 64 * 1024 * 1024,
  negotiationMs: 30_000,
  connections: 10_000,
};

/** Why a server ended a connection by itself; stable, fit for a metric's label. */
export type ServerFaultCode =
  /** The client's first bytes are not NBD's. */
  | 'bad-client-flags'
  | 'bad-option-magic'
  /** An option's length is beyond all reason. */
  | 'option-too-long'
  /** Haggling without end. */
  | 'too-many-options'
  /** EXPORT_NAME cannot be answered with an error, so the connection ends. */
  | 'export-refused'
  | 'negotiation-timeout'
  | 'negotiation-cut'
  | 'bad-request-magic'
  /** A payload length that no client can mean. */
  | 'payload-too-long'
  /** A payload was begun, does not come, and others wait for the memory that is set aside for it. */
  | 'payload-stalled'
  /** Gone in the middle of a request. */
  | 'request-cut'
  /** The network's own error: reset, broken pipe. */
  | 'link-error'
  | 'too-many-connections'
  /** A bug of ours or of the device's: noticed, logged, contained. */
  | 'internal';

export interface ServerFault {
  readonly code: ServerFaultCode;
  readonly peer: string;
  readonly message: string;
}
