/**
 * Asking a running agent or hub: one JSON request and response over TCP or a Unix socket.
 *
 * Always holds: it ends within its time limit, with at most LARGEST_BODY_BYTES read.
 */
import { request as httpRequest } from 'node:http';
import { type Address, asError, formatAddress, LinkFault, plainReason, ProtocolFault } from '@rephub/platform';
import { CommandFailure, EXIT, type ExitCode } from './exit.js';

const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

export interface JsonRequest {
  readonly address: Address;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: unknown;
  /** Sent as `Authorization: Bearer`. */
  readonly token?: string | undefined;
  readonly timeoutMs: number;
}

export interface JsonResponse {
  readonly status: number;
  /** Null when there is no body. */
  readonly body: unknown;
}

/**
 * Throws a LinkFault (`connect-refused`, `request-timeout`, `request-failed`: worth another try; `not-allowed`: not), or a
 * ProtocolFault when what came is no JSON.
 */
export async function requestJson(given: JsonRequest): Promise<JsonResponse> {
  const name = formatAddress(given.address);
  const { status, content } = await exchange(given, name);
  if (content.length === 0) return { status, body: null };
  try {
    return { status, body: JSON.parse(content.toString('utf8')) as unknown };
  } catch (error) {
    throw new ProtocolFault('not-json', `${name} answered ${given.path} with ${status} and no JSON`, { cause: error });
  }
}

/** The body of a good answer. What the other side refuses ends the command with its message. */
export async function askJson(given: JsonRequest): Promise<unknown> {
  const { status, body } = await requestJson(given);
  if (status >= 200 && status < 300) return body;
  throw new CommandFailure(
    refusalExitCode(status, body),
    refusalText(body) ?? `${formatAddress(given.address)} answered ${given.path} with ${status}`,
  );
}

const TRY_AGAIN: ReadonlySet<number> = new Set([429, 503, 504, 507]);
/** Whom the other side has asked in turn could not answer: now, or ever. */
const BEHIND = 502;
/** A value that is wrong: in the request, the token, or the name that the other side was called by. */
const WRONG: ReadonlySet<number> = new Set([400, 401, 403]);

/** How a command ends whose request was refused. A name that is not there is wrong usage, as every other wrong value. */
export function refusalExitCode(status: number, body: unknown): ExitCode {
  if (TRY_AGAIN.has(status) || (status === BEHIND && isRetryable(body))) return EXIT.tryAgain;
  if (WRONG.has(status) || (status === 404 && refusalCode(body)?.startsWith('unknown-') === true))
    return EXIT.wrongUsage;
  return EXIT.failed;
}

/** `{"error": {"retryable": true}}` */
function isRetryable(body: unknown): boolean {
  if (typeof body !== 'object' || body === null) return false;
  if ('error' in body) return isRetryable(body.error);
  return 'retryable' in body && body.retryable === true;
}

/** `{"error": {"code"}}`, which tells a name that is not there from a path that is not. */
function refusalCode(body: unknown): string | null {
  if (typeof body !== 'object' || body === null) return null;
  if ('error' in body) return refusalCode(body.error);
  return 'code' in body && typeof body.code === 'string' ? body.code : null;
}

/** `{"error": {"message"}}`, `{"error": "…"}` or `{"message": "…"}`. */
function refusalText(body: unknown): string | null {
  if (typeof body !== 'object' || body === null) return null;
  if ('error' in body) return typeof body.error === 'string' ? body.error : refusalText(body.error);
  return 'message' in body && typeof body.message === 'string' ? body.message : null;
}

function exchange(given: JsonRequest, name: string): Promise<{ status: number; content: Buffer }> {
  const { address } = given;
  const body = given.body === undefined ? null : Buffer.from(JSON.stringify(given.body));
  const headers: Record<string, string> = { accept: 'application/json', connection: 'close' };
  if (body !== null) {
    headers['content-type'] = 'application/json';
    headers['content-length'] = String(body.length);
  }
  if (given.token !== undefined) headers['authorization'] = `Bearer ${given.token}`;
  const target = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  const signal = AbortSignal.timeout(given.timeoutMs);
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(requestFault(name, given.timeoutMs, signal.aborted, error));
    const sent = httpRequest(
      { ...target, method: given.method, path: given.path, headers, signal, agent: false },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > LARGEST_BODY_BYTES)
            response.destroy(new Error(`its answer has more than ${LARGEST_BODY_BYTES} bytes`));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, content: Buffer.concat(chunks) });
        });
      },
    );
    sent.on('error', fail);
    sent.end(body ?? undefined);
  });
}

function requestFault(name: string, timeoutMs: number, timedOut: boolean, error: unknown): LinkFault {
  if (timedOut)
    return new LinkFault('request-timeout', `no answer from ${name} within ${timeoutMs} ms`, { cause: error });
  const known = asError(error);
  const code = 'code' in known ? String(known.code) : '';
  if (code === 'ECONNREFUSED' || code === 'ENOENT') {
    return new LinkFault('connect-refused', `nobody answers at ${name}: is it running?`, { cause: error });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const why = `no permission to ask at ${name}: whoever it runs as may`;
    return new LinkFault('not-allowed', why, { retryable: false, cause: error });
  }
  // How Node names what its parser finds wrong.
  if (code.startsWith('HPE_')) {
    return new LinkFault('request-failed', `${name} does not speak HTTP: another service has that address`, {
      cause: error,
    });
  }
  return new LinkFault('request-failed', `request to ${name} failed: ${plainReason(error)}`, { cause: error });
}
