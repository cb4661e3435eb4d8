// The API and the metrics, asked without a socket in between; the hub behind them is whole.
import { httpApp, hubMetrics } from '@rephub/hub';
import type { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { type HubInProcess, startHub } from '../kit/hub-in-process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { testScope } from '../kit/test-scope.js';

interface Api {
  readonly hub: HubInProcess;
  readonly app: Hono;
  readonly bugs: unknown[];
  readonly refusals: string[];
  ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
}

async function startApi(guard: { token?: string; nbd?: boolean } = {}): Promise<Api> {
  const hub = await startHub(testScope(), guard.nbd === false ? { nbd: [] } : {});
  const bugs: unknown[] = [];
  const refusals: string[] = [];
  const { server } = hub;
  const app = httpApp({
    hub: server.hub,
    clock: hub.platform.clock,
    software: 'test',
    metrics: hubMetrics({
      counters: server.hub.counters,
      get agentConnections() {
        return server.hub.agentConnections;
      },
      get groups() {
        return server.hub.groups;
      },
      nbdClients: () => server.nbd.clients().length,
    }),
    guard: { token: guard.token ?? null, hosts: [] },
    exportUris: (name) => server.exportUris(name),
    internalError: (_, thrown) => bugs.push(thrown),
    refused: (message, path) => refusals.push(`${path}: ${message}`),
  });
  return {
    hub,
    app,
    bugs,
    refusals,
    ask: async (method, path, body) => {
      const answer = await app.request(`/api/v1${path}`, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
      const text = await answer.text();
      return { status: answer.status, body: (text.startsWith('{') ? JSON.parse(text) : {}) as Record<string, unknown> };
    },
  };
}

async function protect(api: Api, group = 'vm1'): Promise<ScriptedAgent> {
  const agent = new ScriptedAgent(api.hub.platform, api.hub.agents, { group });
  await agent.protect();
  return agent;
}

test('the status has at least what the contract says', async () => {
  const api = await startApi();
  await protect(api);
  const { status, body } = await api.ask('GET', '/status');
  expect(status).toBe(200);
  const [group] = body['groups'] as Record<string, unknown>[];
  for (const key of [
    ...['name', 'state', 'reason', 'mode', 'effectiveMode', 'rpoSeconds', 'lagBytes', 'seq', 'durableSeq'],
    ...['generation', 'agentConnected', 'lastResync', 'resync', 'failover', 'tests', 'volumes'],
  ]) {
    expect(group, key).toHaveProperty(key);
  }
  expect(group).toMatchObject({
    name: 'vm1',
    volumes: [{ name: 'disk0', sizeBytes: 8 * MIB }],
    tests: [],
    failover: null,
  });
  expect((await api.ask('GET', '/groups/vm1')).body).toMatchObject({ name: 'vm1' });
});

test('an unknown group is 404 by name, with the names that there are', async () => {
  const api = await startApi();
  await protect(api);
  for (const [method, path, body] of [
    ['GET', '/groups/none', undefined],
    ['POST', '/groups/none/tests', {}],
    ['POST', '/groups/none/read', { volume: 'd', offset: 0, length: 1 }],
    ['POST', '/groups/none/resync', {}],
    ['POST', '/groups/none/enroll', {}],
    ['POST', '/groups/none/forget', { confirm: 'none' }],
  ] as const) {
    const answer = await api.ask(method, path, body);
    expect(answer.status, path).toBe(404);
    expect(answer.body).toMatchObject({
      error: { code: 'unknown-group', message: 'there is no group called none; this hub has vm1' },
    });
  }
  expect(api.bugs).toEqual([]);
});

describe('a failover test over the API', () => {
  test('is opened, renewed, kept and dropped', async () => {
    const api = await startApi();
    await protect(api);
    const opened = await api.ask('POST', '/groups/vm1/tests', { name: 't1', leaseSeconds: 30 });
    expect(opened.status).toBe(201);
    expect(opened.body).toMatchObject({
      test: { name: 't1', leaseSeconds: 30, over: null },
      exports: [{ volume: 'disk0', name: 'vm1/disk0!t1', uris: [api.hub.uri('vm1/disk0!t1')] }],
    });
    expect((await api.ask('POST', '/groups/vm1/tests', { name: 't1' })).status).toBe(409);
    expect((await api.ask('GET', '/groups/vm1')).body).toMatchObject({ tests: [{ name: 't1' }] });
    expect((await api.ask('POST', '/groups/vm1/tests/t1/renew', {})).body).toMatchObject({
      test: { leaseSeconds: 30 },
    });
    const kept = await api.ask('POST', '/groups/vm1/tests/t1/renew', { keep: true });
    expect(kept.body).toMatchObject({ test: { leaseSeconds: null } });
    expect((await api.ask('DELETE', '/groups/vm1/tests/t1')).status).toBe(204);
    expect((await api.ask('DELETE', '/groups/vm1/tests/t1')).status).toBe(404);
    expect((await api.ask('GET', '/groups/vm1')).body).toMatchObject({ tests: [] });
  });

  test('is refused while the group has no consistent point', async () => {
    const api = await startApi();
    const agent = new ScriptedAgent(api.hub.platform, api.hub.agents);
    await agent.begin();
    const answer = await api.ask('POST', '/groups/vm1/tests', {});
    expect(answer).toMatchObject({ status: 409, body: { error: { code: 'no-consistent-point' } } });
  });

  test('is refused when nothing is exported over NBD', async () => {
    const api = await startApi({ nbd: false });
    await protect(api);
    const answer = await api.ask('POST', '/groups/vm1/tests', {});
    expect(answer).toMatchObject({ status: 409, body: { error: { code: 'no-nbd-listener' } } });
  });

  test.for([
    [{ at: '-15m' }, 'unknown-point', 404],
    [{ name: 'latest' }, 'bad-name', 400],
    [{ name: '../x' }, 'bad-body', 400],
    [{ leaseSeconds: 0 }, 'bad-body', 400],
    [{ colour: 'red' }, 'bad-body', 400],
  ] as const)('with %j is refused', async ([body, code, status]) => {
    const api = await startApi();
    await protect(api);
    expect(await api.ask('POST', '/groups/vm1/tests', body)).toMatchObject({ status, body: { error: { code } } });
  });
});

test('a region is read as bytes, or as JSON for who asks for that', async () => {
  const api = await startApi();
  const agent = await protect(api);
  const bytes = Buffer.alloc(4096, 7);
  agent.onReadRegion = ({ tag, offset }) => agent.write(offset, bytes, { flags: 3, tag });
  const ask = async (accept: string): Promise<Response> =>
    await api.app.request('/api/v1/groups/vm1/read', {
      method: 'POST',
      body: JSON.stringify({ volume: 'disk0', offset: 512, length: 4096 }),
      headers: { 'content-type': 'application/json', accept },
    });
  const raw = await ask('*/*');
  expect(Buffer.from(await raw.arrayBuffer()).equals(bytes)).toBe(true);
  expect(raw.headers.get('x-rephub-seq')).toBe(String(agent.lastNumber));
  const json = (await (await ask('application/json')).json()) as { data: string };
  expect(Buffer.from(json.data, 'base64').equals(bytes)).toBe(true);
  const outside = await api.ask('POST', '/groups/vm1/read', { volume: 'disk0', offset: 8 * MIB, length: 1 });
  expect(outside).toMatchObject({ status: 400, body: { error: { code: 'bad-range' } } });
  const unknown = await api.ask('POST', '/groups/vm1/read', { volume: 'disk9', offset: 0, length: 1 });
  expect(unknown.status).toBe(404);
});

test('what needs the agent says so when it is away, and is worth another try', async () => {
  const api = await startApi();
  const agent = await protect(api);
  await agent.bye();
  const answer = await api.ask('POST', '/groups/vm1/resync', { full: true });
  expect(answer).toMatchObject({ status: 503, body: { error: { code: 'agent-not-connected', retryable: true } } });
});

test('forgetting takes the name a second time', async () => {
  const api = await startApi();
  await protect(api);
  expect((await api.ask('POST', '/groups/vm1/forget', {})).status).toBe(400);
  expect((await api.ask('POST', '/groups/vm1/forget', { confirm: 'vm2' })).status).toBe(400);
  expect((await api.ask('POST', '/groups/vm1/forget', { confirm: 'vm1' })).status).toBe(200);
  expect((await api.ask('GET', '/groups/vm1')).status).toBe(404);
});

test('events come oldest first, from where the reader left off', async () => {
  const api = await startApi();
  await protect(api);
  const all = (await api.ask('GET', '/events')).body['events'] as { id: number; event: string; group: string }[];
  expect(all.map((event) => event.event)).toEqual(expect.arrayContaining(['group-created', 'session-began']));
  const first = all[0]?.id ?? 0;
  const rest = (await api.ask('GET', `/events?after=${first}`)).body['events'] as { id: number }[];
  expect(rest.length).toBe(all.length - 1);
  expect((await api.ask('GET', '/events?after=x')).status).toBe(400);
});

test('metrics name each group, its state and what ended sessions', async () => {
  const api = await startApi();
  const agent = await protect(api);
  agent.link.send([Buffer.alloc(200, 0x5a)]);
  await agent.ended();
  const text = await (await api.app.request('/metrics')).text();
  expect(text).toContain('rephub_group_state{group="vm1",state="protected"}');
  expect(text).toContain('rephub_agent_session_ends_total{code="frame-magic"} 1');
  expect(text).toMatch(/rephub_group_records_total\{group="vm1"\} [1-9]/);
  expect(text).toMatch(/rephub_group_resyncs_total\{group="vm1",cause="first-sync"\} 1/);
  expect(text).toMatch(/rephub_group_resync_bytes_total\{group="vm1",cause="verify"\} 0/);
});

describe('the guard', () => {
  test('with a token, only who knows it gets in; health is for all', async () => {
    const api = await startApi({ token: 'secret' });
    const ask = async (path: string, authorization?: string): Promise<number> =>
      (await api.app.request(path, authorization === undefined ? {} : { headers: { authorization } })).status;
    expect(await ask('/api/v1/status')).toBe(401);
    expect(await ask('/metrics')).toBe(401);
    expect(await ask('/api/v1/status', 'Bearer wrong')).toBe(401);
    expect(await ask('/api/v1/status', 'Basic secret')).toBe(401);
    expect(await ask('/api/v1/status', 'Bearer secret')).toBe(200);
    expect(await ask('/healthz')).toBe(200);
    const none =
      'this hub asks for a token, and none came: set REPHUB_TOKEN to the one that rephub serve was started with';
    const wrong = 'the token is not the one that rephub serve was started with: set REPHUB_TOKEN to that one';
    expect(api.refusals).toEqual([
      ...[`/api/v1/status: ${none}`, `/metrics: ${none}`],
      ...[`/api/v1/status: ${wrong}`, `/api/v1/status: ${none}`],
    ]);
    const answer = await api.app.request('/api/v1/status', { headers: { authorization: 'Bearer wrong' } });
    expect(await answer.json()).toEqual({ error: { code: 'unauthorized', message: wrong, retryable: false } });
  });

  test('a request for another host name is refused, as a lured browser would send it', async () => {
    const api = await startApi();
    const ask = async (host: string): Promise<number> =>
      (await api.app.request('/api/v1/status', { headers: { host } })).status;
    expect(await ask('127.0.0.1:9011')).toBe(200);
    expect(await ask('localhost')).toBe(200);
    expect(await ask('[::1]:9011')).toBe(200);
    expect(await ask('evil.example:9011')).toBe(403);
    expect(await ask('127.0.0.1.evil.example')).toBe(403);
  });

  test('what changes something must be JSON', async () => {
    const api = await startApi();
    await protect(api);
    const answer = await api.app.request('/api/v1/groups/vm1/resync', { method: 'POST', body: '{}' });
    expect(answer.status).toBe(400);
  });

  test('a body that is too large is not read', async () => {
    const api = await startApi();
    await protect(api);
    const answer = await api.ask('POST', '/groups/vm1/tests', { name: 'x'.repeat(100_000) });
    expect(answer.status).toBe(413);
  });
});
