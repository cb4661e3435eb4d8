import type { Clock, Fault, Network } from '@rephub/platform';
import type { NbdUri } from '../uri.js';
import type { ExportEntry } from '../server/exports.js';
import type { NbdClient } from './client.js';

export interface ConnectNbdOptions {
  /** For the whole of connecting and negotiating. Default 10 s. */
  readonly timeoutMs?: number;
  /** A request unanswered for so long makes the connection dead (`request-timeout`). Default: never. */
  readonly requestTimeoutMs?: number;
  /** Metadata contexts to ask for. Default `base:allocation`. */
  readonly contexts?: readonly string[];
  /** Offer extended headers (64-bit lengths). Default true. */
  readonly extendedHeaders?: boolean;
  /**
   * Called once when the connection dies without having been asked to. During the call the owner may
   * takeUnfinished(); requests it leaves are completed with ESHUTDOWN right after it.
   */
  readonly lost?: (fault: Fault) => void;
}

export type ClientPlatform = { readonly clock: Clock; readonly network: Network };

/**
 * Connects and negotiates. Throws a LinkFault (`connect-…`, `negotiation-timeout`, `negotiation-cut`), a
 * ConfigFault (`export-unknown`, `export-refused`, `tls-not-yet`, `tls-required`) or a ProtocolFault.
 */
export function connectNbd(
  platform: ClientPlatform,
  uri: string | NbdUri,
  options: ConnectNbdOptions = {},
): Promise<NbdClient> {
  void platform;
  void uri;
  void options;
  throw new Error('not built yet');
}

/** The names a server tells, in its order. */
export function listExports(
  platform: ClientPlatform,
  uri: string | NbdUri,
  timeoutMs = 10_000,
): Promise<ExportEntry[]> {
  void platform;
  void uri;
  void timeoutMs;
  throw new Error('not built yet');
}
