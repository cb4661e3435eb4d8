// FULL, NODISCARD: a group whose first opening failed is no group; it holds up nobody, and what holds data is left alone.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type HubServer } from '@rephub/hub';
import { type FileSystem, type OpenFile, type Platform, StorageFault } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { expect, test } from 'vitest';
import { startHub } from '../kit/hub-in-process.js';
import { ScriptedAgent } from '../kit/scripted-agent.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

/** This machine, whose disk takes so many writes below `groups/` and is full then. */
class Filling {
  left = Infinity;
  wrote = 0;
  readonly platform: Platform = {
    ...nodePlatform(),
    files: this.#through<FileSystem>(nodePlatform().files, {
      open: async (path, mode, ...more) => {
        const file = await nodePlatform().files.open(path, mode, ...more);
        if (!path.includes('/groups/')) return file;
        return this.#through<OpenFile>(file, {
          write: async (chunks, position) => {
            this.wrote += 1;
            if (this.wrote > this.left) throw new StorageFault('disk-full', `no room for ${path}`, { retryable: true });
            await file.write(chunks, position);
          },
        });
      },
    }),
  };

  #through<T extends object>(target: T, instead: Partial<T>): T {
    return new Proxy(target, {
      get(from, name) {
        const own: unknown = Reflect.get(name in instead ? instead : from, name);
        return typeof own === 'function' ? (own.bind(from) as unknown) : own;
      },
    });
  }
}

function events(server: HubServer): string[] {
  return server.hub.events.ofThisRun.filter(({ group }) => group === 'vm1').map(({ event }) => event);
}

function names(server: HubServer): string[] {
  return server.hub.groups.map(({ name }) => name);
}

test('a group whose storage could not be made for want of room is not listed, not after a restart either, and made by the next try', async () => {
  let writes = 0;
  for (; ; writes += 1) {
    const note = `after ${writes} writes`;
    const scope = testScope();
    const disk = new Filling();
    const first = await startHub(scope, { platform: disk.platform });
    disk.left = writes;
    const agent = new ScriptedAgent(disk.platform, first.agents);
    const began = await Promise.allSettled([agent.begin()]);
    agent.cut();
    await waitUntil('the hub to notice', () => first.server.hub.agentConnections === 0);
    if (began[0].status === 'fulfilled') {
      expect(names(first.server), note).toEqual(['vm1']);
      break;
    }
    expect(names(first.server), note).toEqual([]);
    await expect(first.server.hub.forget('vm1'), note).rejects.toMatchObject({ code: 'unknown-group' });
    await first.close();

    // The disk is full yet when the hub is started again.
    disk.left = disk.wrote;
    const second = await startHub(scope, { platform: disk.platform, directory: first.directory });
    expect(names(second.server), note).toEqual([]);
    disk.left = Infinity;
    const again = new ScriptedAgent(disk.platform, second.agents);
    await again.protect();
    expect(second.server.hub.group('vm1').status(), note).toMatchObject({ durableSeq: again.lastNumber });
    expect(events(second.server), note).toContain('group-created');
    await again.bye();
    await second.close();
    const third = await startHub(scope, { platform: disk.platform, directory: first.directory });
    expect(third.server.hub.group('vm1').status(), note).toMatchObject({ durableSeq: again.lastNumber });
    await third.close();
  }
  expect(writes).toBeGreaterThan(2);
});

test('a seed that came to nothing makes no group; one that is there is a group, also where its agent could not begin', async () => {
  const scope = testScope();
  const disk = new Filling();
  const first = await startHub(scope, { platform: disk.platform });
  const { hub } = first.server;
  const image = join(await tempDir(scope), 'image');
  await writeFile(image, Buffer.alloc(65_536, 7));
  disk.left = 0;
  await expect(hub.seed('vm1', 'disk0', image)).rejects.toMatchObject({ code: 'disk-full' });
  expect(names(first.server)).toEqual([]);
  disk.left = Infinity;
  await hub.seed('vm1', 'disk0', image);
  disk.left = disk.wrote + 1;
  const agent = new ScriptedAgent(disk.platform, first.agents, {
    volumes: [{ name: 'disk0', sizeBytes: 65_536 }],
  });
  await expect(agent.begin()).rejects.toMatchObject({ message: expect.stringContaining('no room') as string });
  expect(names(first.server)).toEqual(['vm1']);
  await first.close();
  disk.left = Infinity;
  const second = await startHub(scope, { platform: disk.platform, directory: first.directory });
  expect(names(second.server)).toEqual(['vm1']);
  const again = new ScriptedAgent(disk.platform, second.agents, {
    lineId: agent.lineId,
    volumes: [{ name: 'disk0', sizeBytes: 65_536 }],
  });
  await again.begin();
  expect(second.server.hub.group('vm1').store?.state.seeds).toEqual([{ volume: 'disk0', sizeBytes: 65_536 }]);
  again.cut();
  await second.close();
});

test('a directory that holds a journal is a group, whatever became of the decisions beside it', async () => {
  const scope = testScope();
  const first = await startHub(scope);
  const agent = new ScriptedAgent(first.platform, first.agents);
  await agent.protect();
  await agent.bye();
  await first.close();
  const { files } = first.platform;
  await files.remove(`${first.directory}/groups/vm1/decisions.log`);
  const second = await startHub(scope, { directory: first.directory });
  expect(names(second.server)).toEqual(['vm1']);
  await second.close();
});
