import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Address } from '@rephub/platform';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askJson, requestJson } from './http-client.js';

let directory: string;
let server: Server | null;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rephub-http-'));
  server = null;
});
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  rmSync(directory, { recursive: true, force: true });
});

async function serving(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<Address> {
  const path = join(directory, 'control.sock');
  server = createServer(answer).listen(path);
  await once(server, 'listening');
  return { kind: 'unix', path };
}
const json = (response: ServerResponse, status: number, body: unknown): void => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};
const get = { method: 'GET', path: '/status', timeoutMs: 2000 } as const;

describe('requestJson', () => {
  it('sends and receives JSON over a Unix socket, with the token', async () => {
    const address = await serving((request, response) => {
      request.setEncoding('utf8').on('data', (body) => {
        json(response, 200, { url: request.url, auth: request.headers.authorization, sent: body as string });
      });
    });
    const answer = await requestJson({
      address,
      method: 'POST',
      path: '/pause?x=1',
      body: { now: true },
      token: 't',
      timeoutMs: 2000,
    });
    expect(answer).toEqual({ status: 200, body: { url: '/pause?x=1', auth: 'Bearer t', sent: '{"now":true}' } });
  });

  it('says that what answers is no HTTP server, in words', async () => {
    const path = join(directory, 'nbd.sock');
    const other = createNetServer((socket) => {
      socket.on('error', () => undefined).end('NBDMAGICIHAVEOPT');
    }).listen(path);
    await once(other, 'listening');
    await expect(requestJson({ ...get, address: { kind: 'unix', path } })).rejects.toMatchObject({
      code: 'request-failed',
      message: `${path} does not speak HTTP: another service has that address`,
    });
    other.close();
  });

  it('says that nobody answers, that the time is up, and that the answer is no JSON', async () => {
    const missing: Address = { kind: 'unix', path: join(directory, 'none') };
    await expect(requestJson({ ...get, address: missing })).rejects.toMatchObject({
      kind: 'link',
      code: 'connect-refused',
    });
    let respond: (response: ServerResponse) => void = () => undefined;
    const address = await serving((_, response) => respond(response));
    await expect(requestJson({ ...get, address, timeoutMs: 50 })).rejects.toMatchObject({
      code: 'request-timeout',
      retryable: true,
    });
    respond = (response) => response.write('{"half":');
    await expect(requestJson({ ...get, address, timeoutMs: 50 })).rejects.toMatchObject({ code: 'request-timeout' });
    respond = (response) => response.end('hello');
    await expect(requestJson({ ...get, address })).rejects.toMatchObject({ kind: 'protocol', code: 'not-json' });
    respond = (response) => response.destroy();
    await expect(requestJson({ ...get, address })).rejects.toMatchObject({ code: 'request-failed', retryable: true });
  });
});

describe('askJson', () => {
  it('returns the body, or ends the command with the message and a code that fits the status', async () => {
    let status = 200;
    let body: unknown = { groups: [] };
    const address = await serving((_, response) => json(response, status, body));
    expect(await askJson({ ...get, address })).toEqual({ groups: [] });
    for (const [answered, sent, exitCode, message] of [
      [404, { error: { code: 'unknown-group', message: 'no group vm9' } }, 2, 'no group vm9'],
      [404, { error: { code: 'not-found', message: 'no such path' } }, 1, 'no such path'],
      [404, { error: 'no GET /x here' }, 1, 'no GET /x here'],
      [400, { error: 'bad point' }, 2, 'bad point'],
      [401, { error: 'another token' }, 2, 'another token'],
      [403, { error: 'another name' }, 2, 'another name'],
      [409, { error: 'a history' }, 1, 'a history'],
      [507, { error: 'no room' }, 75, 'no room'],
      [502, { error: { code: 'agent-gone', message: 'its agent went', retryable: true } }, 75, 'its agent went'],
      [502, { error: { code: 'read-unreadable', message: 'a bad sector', retryable: false } }, 1, 'a bad sector'],
      [502, 'a proxy', 1, `${directory}/control.sock answered /status with 502`],
      [503, { message: 'starting' }, 75, 'starting'],
      [500, null, 1, `${directory}/control.sock answered /status with 500`],
    ] as const) {
      status = answered;
      body = sent;
      await expect(askJson({ ...get, address })).rejects.toMatchObject({ exitCode, message });
    }
  });
});
