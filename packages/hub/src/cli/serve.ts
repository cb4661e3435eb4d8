/**
 * `rephub serve`: reads the options, opens the hub with the real disk, clock and sockets, serves until a
 * signal says stop, and ends in order.
 */
import { command, type CommandContext, EXIT, type ExitCode } from '@rephub/command';
import {
  address,
  badValue,
  duration,
  flag,
  formatDuration,
  logOptions,
  openLogger,
  type OpenLogger,
  optional,
  path,
  repeated,
  required,
  size,
  type ValuesOf,
  withDefault,
} from '@rephub/command';
import { type Address, asError, ConfigFault, formatAddress } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { openSqliteCatalogue } from '../catalogue/sqlite-catalogue.js';
import type { EventFields, HubEvent } from '../hub/events.js';
import { HubServer, refuseOpenDoors } from '../hub/hub-server.js';
import { httpApp } from '../http/app.js';
import { hubMetrics } from '../http/metrics.js';
import { openGroupStore } from '../storage/index.js';
import { SOFTWARE } from '../version.js';
import { type HttpServer, serveHttp } from './http-server.js';
import { hubListen, nbdListen } from './option-types.js';
import { collectDefaultMetrics } from 'prom-client';

const options = {
  data: required(path(), { placeholder: 'DIR', help: 'where journals, replicas and the identity live; locked' }),
  listen: repeated(hubListen(), {
    placeholder: 'URL',
    help: 'where agents connect to: tcp://HOST:PORT or unix:///PATH',
    defaults: ['tcp://127.0.0.1:9010'],
  }),
  nbd: repeated(nbdListen(), {
    placeholder: 'URI',
    help: 'where replicas and tests are exported: nbd://HOST:PORT or nbd+unix:///?socket=PATH',
    defaults: ['nbd://127.0.0.1:10809'],
  }),
  http: withDefault(address(), '127.0.0.1:9011', {
    placeholder: 'ADDR',
    help: 'health, metrics and the API: HOST:PORT or unix:PATH',
  }),
  retention: withDefault(duration(), '24h', {
    placeholder: 'TIME',
    help: 'how long records stay in the journal before they go into the base images; 0: as soon as possible',
  }),
  'journal-max': optional(size({ min: 64 * 1024 * 1024 }), {
    placeholder: 'SIZE',
    help: 'journal of a group, at most; history gives way from its old end',
  }),
  reserve: optional(size(), {
    placeholder: 'SIZE',
    help: 'room on the disk that is kept for protection: tests end, and history and large resyncs give way, before it is used (default: 5 % of the disk or 1 GiB, whichever is less)',
  }),
  'index-cache': withDefault(size({ min: 1024 * 1024 }), '64MiB', {
    placeholder: 'SIZE',
    help: 'memory for the indexes of all groups; history of those that use most gives way when they need more',
  }),
  heartbeat: withDefault(duration({ min: 50, max: 60_000 }), '1s', {
    placeholder: 'TIME',
    help: 'how often both sides say that they live',
  }),
  'heartbeat-timeout': withDefault(duration({ min: 200, max: 600_000 }), '5s', {
    placeholder: 'TIME',
    help: 'an agent silent for so long is gone, and its group unknown; more than --heartbeat',
  }),
  insecure: flag({ help: 'listen where other machines can connect, without TLS' }),
  ...logOptions,
};

type ServeValues = ValuesOf<typeof options>;

const STOP_WITHIN_MS = 9500;
const NBD_GRACE_MS = 3000;

export const serveCommand = command({
  name: 'serve',
  summary: 'receive from agents, keep replicas, serve them',
  options,
  takesFile: true,
  examples: ['rephub serve --data /var/lib/rephub', 'rephub serve -c /etc/rephub/rephub.yaml'],
  check: (values) => {
    if (values.listen.length === 0) {
      throw new ConfigFault('missing-option', 'listen: the list is empty; no agent could connect');
    }
    refuseOpenDoors('--listen', values.listen, values.insecure);
    refuseOpenDoors('--nbd', values.nbd, values.insecure);
    refuseOpenDoors('--http', [values.http], values.insecure);
    // No agent takes it otherwise (Welcome).
    if (values.heartbeatTimeout <= values.heartbeat) {
      const given = formatDuration(values.heartbeatTimeout);
      throw badValue('--heartbeat-timeout', given, `more than --heartbeat (${formatDuration(values.heartbeat)})`);
    }
  },
  run: serve,
});

async function serve(values: ServeValues, context: CommandContext): Promise<ExitCode> {
  const log = await openLogger(values);
  const stopping = stopSignal(log);
  try {
    const server = await openHub(values, log);
    let http: HttpServer;
    try {
      http = await openHttp(values, context, server, log);
    } catch (thrown) {
      await server.close({ drain: false, graceMs: 0 });
      throw thrown;
    }
    sayReady(values, context, server, http.address, log);
    const signal = await stopping.wait;
    log.info('stopping', { signal });
    return await stop(values, server, http, log);
  } finally {
    stopping.release();
    log.flush();
  }
}

async function openHub(values: ServeValues, log: OpenLogger): Promise<HubServer> {
  const platform = nodePlatform();
  const server = await HubServer.open(platform, {
    directory: values.data,
    software: SOFTWARE,
    heartbeatMs: values.heartbeat,
    timeoutMs: values.heartbeatTimeout,
    listen: values.listen,
    nbd: values.nbd,
    insecure: values.insecure,
    storage: {
      retentionMs: values.retention,
      indexBytes: values.indexCache,
      ...(values.journalMax === undefined ? {} : { journalMaxBytes: values.journalMax }),
      ...(values.reserve === undefined ? {} : { reserveBytes: values.reserve }),
    },
    openStore: openGroupStore,
    openCatalogue: async (directory, trouble) => {
      const { clock, files } = platform;
      return await openSqliteCatalogue({ clock, files, path: `${directory}/catalogue.sqlite`, trouble });
    },
  });
  const tell = (event: HubEvent): void => log[event.level](event.event, logFields(event));
  for (const event of server.hub.events.ofThisRun) tell(event);
  server.hub.events.listen(tell);
  return server;
}

async function openHttp(
  values: ServeValues,
  context: CommandContext,
  server: HubServer,
  log: OpenLogger,
): Promise<HttpServer> {
  const { hub } = server;
  const metrics = hubMetrics({
    counters: hub.counters,
    get agentConnections() {
      return hub.agentConnections;
    },
    get groups() {
      return hub.groups;
    },
    nbdClients: () => server.nbd.clients().length,
  });
  collectDefaultMetrics({ register: metrics, prefix: 'rephub_' });
  const token = context.environment['REPHUB_TOKEN'];
  const app = httpApp({
    hub,
    clock: nodePlatform().clock,
    software: SOFTWARE,
    metrics,
    guard: { token: token === undefined || token === '' ? null : token, hosts: values.insecure ? null : [] },
    exportUris: (name) => server.exportUris(name),
    internalError: (where, thrown) => log.error('http-error', { path: where, message: asError(thrown).message }),
  });
  return await serveHttp(app, values.http);
}

function sayReady(
  values: ServeValues,
  context: CommandContext,
  server: HubServer,
  http: Address,
  log: OpenLogger,
): void {
  const places = {
    listen: server.agentAddresses.map(agentUrl).join(' '),
    nbd: server.exportUris('').join(' '),
    http: http.kind === 'unix' ? `unix:${http.path}` : formatAddress(http),
  };
  log.info('ready', { ...places, data: values.data, hub: server.hub.identity.hubId });
  // On stdout too, for whoever started this and waits: the log may go to a file.
  context.out(
    values.logFormat === 'json'
      ? `${JSON.stringify({ event: 'ready', ...places })}\n`
      : `rephub is ready: listen ${places.listen} nbd ${places.nbd} http ${places.http}\n`,
  );
}

/** Exit 0 when all was closed in order; what could not be is in the log, and the next start recovers. */
async function stop(values: ServeValues, server: HubServer, http: HttpServer, log: OpenLogger): Promise<ExitCode> {
  const limit = setTimeout(() => {
    log.error('stop-too-slow', { afterMs: STOP_WITHIN_MS });
    log.flush();
    process.exit(EXIT.failed);
  }, STOP_WITHIN_MS);
  try {
    await http.close();
    // With retention 0 the base images alone are the replica once the hub has stopped.
    await server.close({ drain: values.retention === 0, graceMs: NBD_GRACE_MS });
    log.info('stopped');
    return EXIT.done;
  } catch (thrown) {
    log.error('stop-failed', { message: asError(thrown).message });
    return EXIT.failed;
  } finally {
    clearTimeout(limit);
  }
}

interface StopSignal {
  readonly wait: Promise<string>;
  release(): void;
}

/** The first SIGTERM or SIGINT asks for an orderly end, a second one ends the process at once; SIGHUP reopens the log. */
function stopSignal(log: OpenLogger): StopSignal {
  const reopen = (): void => log.reopen();
  let first: ((signal: string) => void) | null = null;
  let asked = false;
  const wait = new Promise<string>((resolve) => (first = resolve));
  const stopNow = (signal: NodeJS.Signals): void => {
    if (asked) process.exit(EXIT.failed);
    asked = true;
    first?.(signal);
  };
  process.on('SIGHUP', reopen);
  process.on('SIGTERM', stopNow);
  process.on('SIGINT', stopNow);
  return {
    wait,
    release: () => {
      process.off('SIGHUP', reopen);
    },
  };
}

function logFields(event: HubEvent): EventFields {
  return { ...(event.group === null ? {} : { group: event.group }), message: event.message, ...event.fields };
}

function agentUrl(at: Address): string {
  return at.kind === 'unix' ? `unix://${at.path}` : `tcp://${formatAddress(at)}`;
}
