// FULL: the hub's disk (a small tmpfs) fills up under it: acknowledgements stop and the state says why, reads go on, and
// protection resumes by itself when there is room.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectNbd, readBytes } from '@rephub/nbd';
import { startHub } from '../kit/hub-in-process.js';
import { must } from '../kit/process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

test(
  'FULL: a full disk stops acknowledgements, not the hub; room brings protection back',
  { timeout: 240_000 },
  async () => {
    const scope = testScope();
    const mount = await tempDir(scope);
    await must('mount', ['-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', mount]);
    scope.defer('tmpfs', async () => {
      await must('umount', ['-l', mount]);
    });
    const hub = await startHub(scope, { directory: join(mount, 'data') });
    const agent = new ScriptedAgent(hub.platform, hub.agents, { volumes: [{ name: 'disk0', sizeBytes: 32 * MIB }] });
    await agent.protect(new Map([['disk0', Buffer.alloc(MIB, 3)]]));
    await writeFile(join(mount, 'filler'), Buffer.alloc(100 * MIB, 1));
    const group = hub.server.hub.group('vm1');
    let written = 0;
    while (group.status().reason !== 'disk-full' && written < 400) {
      agent.write(((written % 31) + 1) * MIB, Buffer.alloc(MIB, written % 250));
      written += 1;
      // One after the other, until they are no longer acknowledged.
      const next = agent.lastNumber;
      await Promise.race([
        agent.durableUpTo(next).catch(() => undefined),
        waitUntil('disk-full', () => group.status().reason === 'disk-full').catch(() => undefined),
      ]);
    }
    expect(group.status()).toMatchObject({ state: 'degraded', reason: 'disk-full' });
    await waitUntil('the agent to be told', () => agent.lastAck?.stalled === 'disk-full', { timeoutMs: 60_000 });
    expect(agent.durable).toBeLessThan(agent.lastNumber);

    const client = await connectNbd(hub.platform, hub.uri('vm1/disk0'));
    expect((await readBytes(client, 0, MIB)).equals(Buffer.alloc(MIB, 3))).toBe(true);
    await client.close();

    await rm(join(mount, 'filler'));
    await agent.until('all to be durable', () => agent.durable === agent.lastNumber, 90_000);
    const seen = (): string => JSON.stringify(group.status());
    await waitUntil('protected', () => group.status().state === 'protected', { timeoutMs: 90_000, seen });
  },
);
