import { runProgram } from '@rephub/command';
import { createServer, type Server } from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyCommand } from './verify-command.js';

const ID = '00000000-0000-4000-8000-000000000001';
const REPORT = {
  ...{ id: ID, cause: 'asked for by the operator', startedAt: '2026-01-01T00:00:00.000Z', finishedAt: null },
  ...{ bytesTotal: 4096, bytesSame: 0, bytesHoles: 0, bytesDiffer: 0, bytesUnknown: 0, differs: [], reason: null },
  volumes: [{ name: 'disk0', bytesTotal: 4096, bytesSame: 0, bytesDiffer: 0, bytesUnknown: 0, reason: null }],
};
const ended = (figures: object): object => ({
  starting: false,
  verify: {
    ...{ ...REPORT, finishedAt: '2026-01-01T00:00:01.000Z', ...figures },
    volumes: [{ ...REPORT.volumes[0], ...figures }],
  },
});

describe('repagent verify', () => {
  let directory = '';
  let server: Server;
  /** What the agent says of itself, look by look; the last one again and again. */
  let statuses: object[] = [];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'verify-'));
    server = createServer((request, response) => {
      const body = request.url === '/verify' ? { id: ID } : statuses.length > 1 ? statuses.shift() : statuses[0];
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(join(directory, 'control.sock'), resolve));
  });
  afterEach(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });

  async function verify(...told: object[]): Promise<{ readonly code: number; readonly said: string }> {
    statuses = told;
    let said = '';
    const write = (text: string): void => void (said += text);
    const program = { name: 'repagent', version: '0', summary: '', environmentPrefix: 'REPAGENT' };
    const world = { arguments: ['verify', '--state', directory], environment: {}, out: write, err: write };
    return { code: await runProgram({ ...program, commands: [verifyCommand] }, world), said };
  }

  it.for([
    ['same', 0, { bytesSame: 4096 }],
    ['differs', 1, { bytesDiffer: 4096 }],
    ['could not tell', 75, { bytesUnknown: 4096, reason: 'it is marked' }],
  ] as const)('says %s, and ends with %i', async ([word, code, figures]) => {
    const result = await verify({ starting: false, verify: REPORT }, ended(figures));
    expect(result).toMatchObject({ code });
    expect(result.said.split('\n')[0]).toBe(word);
  });

  it('could not tell, and says why, when the agent was started again and waits for its upstream', async () => {
    const starting = { starting: true, reason: 'starting: waiting for upstream nbd://h/disk of disk0' };
    const { code, said } = await verify({ starting: false, verify: REPORT }, starting);
    expect(code).toBe(75);
    expect(said).toContain(
      'could not tell: the agent was started again meanwhile: starting: waiting for upstream nbd://h/disk of disk0',
    );
  });
});
