/**
 * The hub's HTTP face: health, metrics and the API that the command line uses. Each route checks what it
 * was sent, asks the hub, and answers with JSON; decisions are the hub's.
 *
 * Must not know: sockets, and which addresses the hub listens on but for what it tells clients.
 */
import { type Clock, ConfigFault, NAME_PATTERN, NAME_RULE } from '@rephub/platform';
import { type Context, Hono } from 'hono';
import type { Registry } from 'prom-client';
import type { z } from 'zod';
import { exportName, parsePoint } from '../exports/export-names.js';
import type { TestStatus } from '../group/group-status.js';
import type { Group } from '../group/group.js';
import type { Hub } from '../hub/hub.js';
import { errorAnswer, statusOf } from './answers.js';
import {
  bodyOf,
  check,
  eventsQuerySchema,
  forgetSchema,
  nothingSchema,
  openTestSchema,
  readSchema,
  renewSchema,
  resyncSchema,
  seedSchema,
} from './bodies.js';
import { checkHost, checkToken, type Guard } from './guard.js';

export interface AppOptions {
  readonly hub: Hub;
  readonly clock: Clock;
  readonly software: string;
  readonly metrics: Registry;
  readonly guard: Guard;
  /** The URIs under which an export can be reached, one for each NBD listener. */
  readonly exportUris: (exportName: string) => readonly string[];
  /** Where a bug of ours is told. */
  readonly internalError: (path: string, thrown: unknown) => void;
  /** Where a request without the token is told. */
  readonly refused: (message: string, path: string) => void;
}

/** The whole of it: `/healthz`, `/metrics`, `/api/v1/…`. */
export function httpApp(options: AppOptions): Hono {
  const app = new Hono();
  answerFaults(app, options);
  keepOut(app, options);
  app.get('/healthz', (context) => context.json({ status: 'ok' }));
  app.get('/metrics', async (context) =>
    context.text(await options.metrics.metrics(), 200, { 'content-type': options.metrics.contentType }),
  );

  const api = new Hono();
  addLooks(api, options);
  addTests(api, options);
  addOrders(api, options.hub);
  app.route('/api/v1', api);
  return app;
}

function answerFaults(app: Hono, options: AppOptions): void {
  app.onError((thrown, context) => {
    const status = statusOf(thrown);
    if (status === 500) options.internalError(context.req.path, thrown);
    return context.json(errorAnswer(thrown), status);
  });
  app.notFound((context) =>
    context.json(
      { error: { code: 'not-found', message: `there is nothing at ${context.req.path}`, retryable: false } },
      404,
    ),
  );
}

/** Who may not come in gets no further than this (guard.ts). */
function keepOut(app: Hono, options: AppOptions): void {
  app.use(async (context, next) => {
    const answer = checkHost(options.guard, context.req.header('host'));
    if (!answer.pass) return forbidden(context, answer.status, answer.message);
    if (context.req.path !== '/healthz') {
      const known = checkToken(options.guard, context.req.header('authorization'));
      if (!known.pass) {
        options.refused(known.message, context.req.path);
        return forbidden(context, known.status, known.message);
      }
    }
    await next();
    return undefined;
  });
}

/** What there is to see. */
function addLooks(api: Hono, options: AppOptions): void {
  const { hub } = options;
  api.get('/status', (context) =>
    context.json({
      hub: {
        id: hub.identity.hubId,
        epoch: hub.identity.epoch,
        software: options.software,
        startedAt: new Date(hub.startedUnixMs).toISOString(),
        agentConnections: hub.agentConnections,
      },
      ...hub.status(),
    }),
  );
  api.get('/groups', (context) => context.json(hub.status()));
  api.get('/groups/:group', (context) => context.json(groupOf(hub, context).status()));
  api.get('/events', (context) => {
    const query = check(eventsQuerySchema, context.req.query());
    return context.json({ events: hub.events.after(query.after ?? null, query.limit).map(eventAnswer) });
  });
}

/** Failover tests: opened with a lease, renewed or kept, dropped. */
function addTests(api: Hono, options: AppOptions): void {
  const { hub } = options;
  api.post('/groups/:group/tests', async (context) => {
    const group = groupOf(hub, context);
    const body = await bodyOf(context, openTestSchema);
    return context.json(await openTest(options, group, body), 201);
  });
  api.post('/groups/:group/tests/:test/renew', async (context) => {
    const { tests } = groupOf(hub, context);
    const { keep } = await bodyOf(context, renewSchema);
    const name = context.req.param('test');
    return context.json({ test: keep ? tests.keep(name) : tests.renew(name) });
  });
  api.delete('/groups/:group/tests/:test', async (context) => {
    await groupOf(hub, context).tests.drop(context.req.param('test'), 'dropped on request');
    return context.body(null, 204);
  });
}

/** What an operator asks of a group. */
function addOrders(api: Hono, hub: Hub): void {
  api.post('/groups/:group/read', async (context) => {
    const group = groupOf(hub, context);
    const { volume, offset, length, timeoutSeconds } = await bodyOf(context, readSchema);
    const answer = await group.readRegion({ volume, offset, length, timeoutMs: timeoutSeconds * 1000 });
    if (context.req.header('accept')?.includes('application/json') === true) {
      return context.json({ seq: answer.seq, data: answer.bytes.toString('base64') });
    }
    return context.body(new Uint8Array(answer.bytes), 200, {
      'content-type': 'application/octet-stream',
      'x-rephub-seq': String(answer.seq),
    });
  });
  api.post('/groups/:group/resync', async (context) => {
    const group = groupOf(hub, context);
    const { full, compare, dropLastGood } = await bodyOf(context, resyncSchema);
    // Giving up a point for a resync that lacks room needs no agent: it comes back by itself.
    if (full || compare || !dropLastGood) group.requestResync(full, compare);
    if (dropLastGood) await group.allowDropLastGood(full || compare ? 'later' : 'now');
    if (compare) return context.json({ requested: 'resync-compare' }, 202);
    return context.json({ requested: full ? 'resync-full' : dropLastGood ? 'drop-last-good' : 'resync' }, 202);
  });
  api.post('/groups/:group/verify', async (context) => {
    const group = groupOf(hub, context);
    await bodyOf(context, nothingSchema);
    return context.json({ id: group.requestVerify() }, 202);
  });
  api.post('/groups/:group/seed', async (context) => {
    const { volume, path } = await bodyOf(context, seedSchema);
    const name = context.req.param('group');
    if (!NAME_PATTERN.test(name)) throw new ConfigFault('bad-name', `${name} cannot be a group's name: ${NAME_RULE}`);
    return context.json({ seeded: await hub.seed(name, volume, path) }, 201);
  });
  api.post('/groups/:group/enroll', async (context) => {
    const group = groupOf(hub, context);
    await bodyOf(context, nothingSchema);
    await group.enroll();
    return context.json({ enrolled: group.name });
  });
  api.delete('/groups/:group/enroll', async (context) => {
    const group = groupOf(hub, context);
    await group.disenroll();
    return context.json({ disenrolled: group.name });
  });
  api.post('/groups/:group/forget', async (context) => {
    const group = groupOf(hub, context);
    const { confirm } = await bodyOf(context, forgetSchema);
    if (confirm !== group.name)
      throw new ConfigFault('not-confirmed', `confirm says ${confirm}, the group is ${group.name}`);
    await hub.forget(group.name);
    return context.json({ forgotten: group.name });
  });
}

async function openTest(options: AppOptions, group: Group, body: z.infer<typeof openTestSchema>): Promise<object> {
  const point = parsePoint(body.at);
  if (point.kind === 'wrong') throw new ConfigFault('unknown-point', point.message);
  if (options.exportUris('').length === 0) {
    throw new ConfigFault('no-nbd-listener', 'this hub exports nothing over NBD; start it with --nbd');
  }
  const test = await group.openTest({
    name: body.name,
    at: point.kind === 'number' ? point.number : undefined,
    leaseMs: body.leaseSeconds === null ? null : body.leaseSeconds * 1000,
    scratchBytes: body.scratchBytes,
  });
  return { test, ...testAnswer(options, group, test) };
}

/** The point's age is by two machines' clocks: the agent's in the record, the hub's now. */
function testAnswer(options: AppOptions, group: Group, test: TestStatus): object {
  const ageMs = options.clock.unixMs() - Date.parse(test.pointTime);
  const status = group.status();
  return {
    pointAgeSeconds: Math.max(0, Math.round(ageMs) / 1000),
    rpoSeconds: status.rpoSeconds,
    rpoAtLeastSeconds: status.rpoAtLeastSeconds,
    state: status.state,
    reason: status.reason,
    exports: status.volumes.map((volume) => {
      const name = exportName(group.name, volume.name, test.name);
      return { volume: volume.name, sizeBytes: volume.sizeBytes, name, uris: options.exportUris(name) };
    }),
  };
}

function eventAnswer(event: ReturnType<Hub['events']['after']>[number]): object {
  const { id, unixMs, level, group, event: name, message, fields } = event;
  return { id, at: new Date(unixMs).toISOString(), level, group, event: name, message, fields };
}

function groupOf(hub: Hub, context: Context): Group {
  return hub.group(context.req.param('group') ?? '');
}

function forbidden(context: Context, status: 401 | 403, message: string): Response {
  return context.json(
    { error: { code: status === 401 ? 'unauthorized' : 'forbidden', message, retryable: false } },
    status,
  );
}
