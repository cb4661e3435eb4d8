/** From an NBD URI to a client that is ready, or to the list of what a server has: connecting, with a time limit. */
import { asError, type Clock, ConfigFault, type Fault, LinkFault, type Network, ProtocolFault } from '@rephub/platform';
import { ALLOCATION_CONTEXT } from '../block-device.js';
import type { ExportEntry } from '../server/exports.js';
import { type NbdUri, parseNbdUri } from '../uri.js';
import { isFault, StreamReader } from '../wire/stream-reader.js';
import { NbdClient } from './client.js';
import { ClientNegotiation, isRefusal } from './negotiation.js';

export interface ConnectNbdOptions {
  /** For the whole of connecting and negotiating. Default 10 s. */
  readonly timeoutMs?: number;
  /**
   * A request unanswered for so long makes the connection dead (`request-timeout`); one that makes something stable only where
   * nobody who connects is answered either (request-watch.ts). Default: never.
   */
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
  /** Gives connecting up. */
  readonly signal?: AbortSignal;
}

export interface ClientPlatform {
  readonly clock: Clock;
  readonly network: Network;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** How long a server that refused us may take to close after our goodbye. */
const GOODBYE_MS = 1_000;
const BASE_ALLOCATION = [ALLOCATION_CONTEXT];

/**
 * Connects and negotiates. Throws a LinkFault (`connect-…`, `negotiation-timeout`, `connection-ended`,
 * `server-closing`), a ConfigFault (`uri-…`, `export-unknown`, `export-refused`, `tls-not-yet`,
 * `tls-required`) or a ProtocolFault.
 */
export async function connectNbd(
  platform: ClientPlatform,
  uri: string | NbdUri,
  options: ConnectNbdOptions = {},
): Promise<NbdClient> {
  const parsed = typeof uri === 'string' ? parseNbdUri(uri) : uri;
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  return await withReader(platform, parsed, timeoutMs, options.signal, async (reader) => {
    const served = await new ClientNegotiation(reader).choose({
      exportName: parsed.exportName,
      contexts: options.contexts ?? BASE_ALLOCATION,
      extendedHeaders: options.extendedHeaders ?? true,
    });
    const client = new NbdClient(reader.connection, platform.clock, served, {
      requestTimeoutMs: options.requestTimeoutMs ?? null,
      isThere: (askMs) => answersAnew(platform, parsed, askMs),
      lost: options.lost ?? (() => undefined),
    });
    reader.handOver(client.receiver(), { counted: true });
    return client;
  });
}

/** The names a server tells, in its order. Throws as connectNbd does, and `list-refused`. */
export async function listExports(
  platform: ClientPlatform,
  uri: string | NbdUri,
  timeoutMs = DEFAULT_TIMEOUT_MS,
): Promise<ExportEntry[]> {
  const parsed = typeof uri === 'string' ? parseNbdUri(uri) : uri;
  return await withReader(platform, parsed, timeoutMs, undefined, async (reader) => {
    const entries = await new ClientNegotiation(reader).list();
    reader.connection.end();
    platform.clock.after(timeoutMs, () => reader.connection.destroy());
    return entries;
  });
}

/**
 * How large an export is for somebody who connects now: asked on a connection of its own that never comes to requests.
 * Throws as connectNbd does, and `info-refused`.
 */
export async function exportSize(
  platform: ClientPlatform,
  uri: string | NbdUri,
  timeoutMs = DEFAULT_TIMEOUT_MS,
): Promise<number> {
  const parsed = typeof uri === 'string' ? parseNbdUri(uri) : uri;
  return await withReader(platform, parsed, timeoutMs, undefined, async (reader) => {
    const sizeBytes = await new ClientNegotiation(reader).size(parsed.exportName);
    reader.connection.end();
    platform.clock.after(GOODBYE_MS, () => reader.connection.destroy());
    return sizeBytes;
  });
}

/** Whatever it says, a server that is gone or hangs says nothing. */
async function answersAnew(platform: ClientPlatform, uri: NbdUri, timeoutMs: number): Promise<boolean> {
  return await exportSize(platform, uri, timeoutMs).then(
    () => true,
    (thrown: unknown) => !(thrown instanceof LinkFault),
  );
}

async function withReader<Result>(
  platform: ClientPlatform,
  uri: NbdUri,
  timeoutMs: number,
  signal: AbortSignal | undefined,
  use: (reader: StreamReader) => Promise<Result>,
): Promise<Result> {
  if (uri.tls) throw new ConfigFault('tls-not-yet', 'nbds: TLS is not built yet');
  const started = platform.clock.monotonicMs();
  const connection = await platform.network.connect(
    uri.address,
    signal === undefined ? { timeoutMs } : { timeoutMs, signal },
  );
  const reader = new StreamReader(connection);
  const spentMs = platform.clock.monotonicMs() - started;
  const timer = platform.clock.after(Math.max(0, timeoutMs - spentMs), () => {
    reader.fail(new LinkFault('negotiation-timeout', `${connection.peer} did not negotiate within ${timeoutMs} ms`));
  });
  const abort = (): void =>
    reader.fail(new LinkFault('connect-aborted', 'connecting was given up', { retryable: false }));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await use(reader);
  } catch (thrown) {
    if (isRefusal(thrown)) {
      // The goodbye leaves first.
      connection.end();
      platform.clock.after(GOODBYE_MS, () => connection.destroy());
    } else connection.destroy();
    const error = asError(thrown);
    throw isFault(error) ? error : new ProtocolFault('internal', error.message, { cause: error });
  } finally {
    timer.cancel();
    signal?.removeEventListener('abort', abort);
  }
}
