/**
 * `rephub serve` once its options are read: opens the hub with the real disk, clock and sockets, serves until a
 * signal says stop, and ends in order.
 */
import { type CommandContext, EXIT, type ExitCode, openLogger, type OpenLogger } from '@rephub/command';
import { type Address, asError, formatAddress } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { collectDefaultMetrics } from 'prom-client';
import { openSqliteCatalogue } from '../catalogue/sqlite-catalogue.js';
import type { EventFields, HubEvent } from '../events/events.js';
import { HubServer } from '../hub/hub-server.js';
import { httpApp } from '../http/app.js';
import { hubMetrics } from '../http/metrics.js';
import { RefusalNotice } from '../http/refusal-notice.js';
import { openGroupStore } from '../storage/index.js';
import { SOFTWARE } from '../version.js';
import { type HttpServer, serveHttp } from './http-server.js';
import { type ServeValues } from './serve-options.js';
import { readToken } from './token.js';
import { endOnUncaught } from './uncaught.js';

const STOP_WITHIN_MS = 9500;
const NBD_GRACE_MS = 3000;

/** Serves until SIGTERM or SIGINT. */
export async function serve(values: ServeValues, context: CommandContext): Promise<ExitCode> {
  const token = readToken(context.environment) ?? null;
  const log = await openLogger(values);
  const uncaught = endOnUncaught(log);
  const stopping = stopSignal(log);
  try {
    const server = await openHub(values, log);
    uncaught.keptIn(server.hub.events);
    let http: HttpServer;
    try {
      http = await openHttp(values, token, server, log);
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
    uncaught.release();
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
  token: string | null,
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
  const { clock } = nodePlatform();
  const refusals = new RefusalNotice(clock, (message, where, times) => {
    log.warn('http-refused', { message, path: where, times });
  });
  const app = httpApp({
    hub,
    clock,
    software: SOFTWARE,
    metrics,
    guard: { token, hosts: values.insecure ? null : [] },
    exportUris: (name) => server.exportUris(name),
    refused: (message, where) => refusals.refused(message, where),
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
