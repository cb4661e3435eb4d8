/**
 * The agent's HTTP faces: the control socket in the state directory (for `repagent status` and the like: whoever may enter
 * the directory may use it), and the optional read-only one of `--http`.
 */
import { ConfigFault, Fault, formatAddress } from '@rephub/platform';
import { listenFault } from '@rephub/platform/node';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { type AckMode } from '../acknowledgement.js';
import { type AgentGroup } from '../group.js';
import { metricsText } from './metrics.js';

/** What sun_path holds on Linux, without the closing zero byte. */
const MAX_SOCKET_PATH_BYTES = 107;

/** What a request's path is relative to. */
const BASE_URL = 'http://agent';

type Action = (group: AgentGroup, request: URL) => Promise<unknown>;

const READS: Record<string, Action> = {
  '/status': (group) => Promise.resolve(group.status()),
};

const ACTIONS: Record<string, Action> = {
  '/pause': (group) => group.pause(),
  '/resume': (group) => group.resume(),
  '/mode': (group, url) => {
    group.setMode(modeOf(url.searchParams.get('mode')));
    return Promise.resolve(undefined);
  },
  '/verify': (group) => Promise.resolve(group.verify()),
  '/resync': (group, url) =>
    group.resync(url.searchParams.get('full') === 'true', url.searchParams.get('compare') === 'true'),
};

function modeOf(word: string | null): AckMode {
  if (word === 'async' || word === 'semi-sync' || word === 'sync') return word;
  throw new ConfigFault('bad-value', `mode "${word ?? ''}" is not allowed, expected async, semi-sync or sync`);
}

/** Throws a ConfigFault when the path is too long for a socket. */
export async function serveControl(group: AgentGroup, socketPath: string): Promise<Server> {
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) {
    throw new ConfigFault(
      'state-path-too-long',
      `--state: ${socketPath} has ${Buffer.byteLength(socketPath)} bytes, at most ${MAX_SOCKET_PATH_BYTES} can name a socket`,
    );
  }
  // The directory is locked by us, so a socket found here is left over from a process that is gone.
  await rm(socketPath, { force: true });
  const server = createServer((request, response) => {
    void answer(group, request, response, true);
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return server;
}

/** `/metrics`, `/healthz`, `/status`. Throws a LinkFault when the address cannot be had. */
export async function serveHttp(group: AgentGroup, host: string, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(group, request, response, false);
  });
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw listenFault(formatAddress({ kind: 'tcp', host, port }), cause, '--http');
  }
  return server;
}

async function answer(
  group: AgentGroup,
  request: IncomingMessage,
  response: ServerResponse,
  mayAct: boolean,
): Promise<void> {
  try {
    const target = request.url ?? '/';
    if (!URL.canParse(target, BASE_URL)) {
      send(response, 400, JSON.stringify({ error: `${target} is no URL` }), 'application/json');
      return;
    }
    const url = new URL(target, BASE_URL);
    if (request.method === 'GET' && url.pathname === '/metrics') {
      send(response, 200, await metricsText(group.status()), 'text/plain; version=0.0.4');
      return;
    }
    if (request.method === 'GET' && url.pathname === '/healthz') {
      send(response, 200, 'ok\n', 'text/plain');
      return;
    }
    const table = request.method === 'GET' ? READS : mayAct && request.method === 'POST' ? ACTIONS : {};
    const action = table[url.pathname];
    if (action === undefined) {
      send(
        response,
        404,
        JSON.stringify({ error: `no ${request.method ?? ''} ${url.pathname} here` }),
        'application/json',
      );
      return;
    }
    const result = await action(group, url);
    send(response, 200, JSON.stringify(result ?? { done: true }), 'application/json');
  } catch (thrown) {
    const code = thrown instanceof Fault ? thrown.code : 'internal';
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    send(
      response,
      thrown instanceof ConfigFault ? 409 : 500,
      JSON.stringify({ error: message, code }),
      'application/json',
    );
  }
}

function send(response: ServerResponse, status: number, body: string, type: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
