/**
 * The agent's HTTP faces: the control socket in the state directory (for `repagent status` and the like: whoever may enter
 * the directory may use it), and the optional read-only one of `--http`.
 */
import { asError, ConfigFault, Fault, formatAddress, MAX_SOCKET_PATH_BYTES } from '@rephub/platform';
import { listenFault } from '@rephub/platform/node';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { type AckMode } from '../mirror/acknowledgement.js';
import { type AgentGroup } from '../group.js';
import { type AgentStatus } from '../status/report.js';
import { type Starting } from '../starting.js';
import { metricsText } from './metrics.js';

/** What a request's path is relative to. */
const BASE_URL = 'http://agent';

/** Whom requests are put to. */
export interface Agent {
  readonly starting: Starting;
  /** Null until it is open: `starting` answers till then. */
  readonly group: AgentGroup | null;
}

type Action = (group: AgentGroup, request: URL) => Promise<unknown>;

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
export async function serveControl(agent: Agent, socketPath: string): Promise<Server> {
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH_BYTES) {
    throw new ConfigFault(
      'state-path-too-long',
      `--state: ${socketPath} has ${Buffer.byteLength(socketPath)} bytes, at most ${MAX_SOCKET_PATH_BYTES} can name a socket`,
    );
  }
  // The directory is locked by us, so a socket found here is left over from a process that is gone.
  await rm(socketPath, { force: true });
  const server = createServer((request, response) => {
    void answer(agent, request, response, true);
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return outlivesErrors(server);
}

/** `/metrics`, `/healthz`, `/status`. Throws a LinkFault when the address cannot be had. */
export async function serveHttp(agent: Agent, host: string, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    void answer(agent, request, response, false);
  });
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw listenFault(formatAddress({ kind: 'tcp', host, port }), cause, '--http');
  }
  return outlivesErrors(server);
}

/** One who could not be accepted (no file handles, no memory) tries again; nobody's disk goes for it. */
function outlivesErrors(server: Server): Server {
  return server.on('error', () => undefined);
}

async function answer(
  agent: Agent,
  request: IncomingMessage,
  response: ServerResponse,
  mayAct: boolean,
): Promise<void> {
  try {
    const target = request.url ?? '/';
    if (!URL.canParse(target, BASE_URL)) {
      sendJson(response, 400, { error: `${target} is no URL` });
      return;
    }
    const url = new URL(target, BASE_URL);
    if (request.method === 'GET' && (await answerRead(agent, url.pathname, response))) return;
    const action = mayAct && request.method === 'POST' ? ACTIONS[url.pathname] : undefined;
    if (action === undefined) {
      sendJson(response, 404, { error: `no ${request.method ?? ''} ${url.pathname} here` });
      return;
    }
    if (agent.group === null) throw agent.starting.refusal();
    sendJson(response, 200, (await action(agent.group, url)) ?? { done: true });
  } catch (thrown) {
    const code = thrown instanceof Fault ? thrown.code : 'internal';
    sendJson(response, statusOf(thrown), { error: asError(thrown).message, code });
  }
}

/** False when there is nothing of that name to be read. */
async function answerRead(agent: Agent, path: string, response: ServerResponse): Promise<boolean> {
  const status = (): AgentStatus => (agent.group ?? agent.starting).status();
  switch (path) {
    case '/metrics':
      send(response, 200, await metricsText(status()), 'text/plain; version=0.0.4');
      return true;
    case '/healthz':
      // Whoever asks wants to know whether the VM has its disks.
      if (agent.group === null) send(response, 503, `${agent.starting.reason}\n`, 'text/plain');
      else send(response, 200, 'ok\n', 'text/plain');
      return true;
    case '/status':
      sendJson(response, 200, status());
      return true;
    default:
      return false;
  }
}

/** What is worth another try is told apart from what was wrong. */
function statusOf(thrown: unknown): 409 | 500 | 503 {
  if (thrown instanceof ConfigFault) return 409;
  return thrown instanceof Fault && thrown.retryable ? 503 : 500;
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, JSON.stringify(body), 'application/json');
}

function send(response: ServerResponse, status: number, body: string, type: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
