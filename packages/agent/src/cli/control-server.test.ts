import { LinkFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { mkdtemp, rm } from 'node:fs/promises';
import { type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askJson } from '@rephub/command';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AGENT_DEFAULTS, type AgentConfig } from '../config.js';
import { Starting } from '../starting.js';
import { serveControl } from './control-server.js';

const CONFIG: AgentConfig = {
  ...AGENT_DEFAULTS,
  ...{ group: 'vm1', listen: [], hubs: [], stateDirectory: '/state' },
  volumes: [{ name: 'disk0', upstream: 'nbd://h/disk', listen: [] }],
};

describe('the control socket', () => {
  let directory = '';
  let server: Server;
  const starting = new Starting(new SimClock(), CONFIG);
  const ask = (method: 'GET' | 'POST', path: string): Promise<unknown> =>
    askJson({ address: { kind: 'unix', path: join(directory, 'control.sock') }, method, path, timeoutMs: 5000 });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'control-'));
    server = await serveControl({ starting, group: null }, join(directory, 'control.sock'));
  });
  afterEach(async () => {
    server.close();
    await rm(directory, { recursive: true });
  });

  it('goes on when somebody could not be accepted', async () => {
    server.emit('error', new LinkFault('accept', 'accept EMFILE'));
    expect(await ask('GET', '/status')).toMatchObject({ name: 'vm1', starting: true });
  });

  it('says what is worth another try, and what there is not', async () => {
    await expect(ask('POST', '/pause')).rejects.toMatchObject({
      exitCode: 75,
      message: 'starting: upstream nbd://h/disk of disk0 is being opened; try again when the agent serves guests',
    });
    await expect(ask('POST', '/nothing')).rejects.toMatchObject({ exitCode: 1 });
  });
});
