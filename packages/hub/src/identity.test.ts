import { simPlatform } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { crc32 } from 'node:zlib';
import { openIdentity, refuseAgentState } from './identity.js';

async function world(): Promise<ReturnType<typeof simPlatform>> {
  const platform = simPlatform(1);
  await platform.files.makeDirectory('/data');
  return platform;
}

async function put(platform: ReturnType<typeof simPlatform>, path: string, text: string): Promise<void> {
  const file = await platform.files.open(path, 'create');
  await file.truncate(0);
  await file.write([Buffer.from(text)], 0);
  await file.close();
}

async function get(platform: ReturnType<typeof simPlatform>, path: string): Promise<string> {
  const file = await platform.files.open(path, 'read');
  const buffer = Buffer.alloc(4096);
  const length = await file.read(buffer, 0);
  await file.close();
  return buffer.toString('utf8', 0, length);
}

test('a new directory gets an identity, and keeps it', async () => {
  const { files, randomness } = await world();
  const made = await openIdentity(files, randomness, '/data');
  expect(made.epoch).toBe(1);
  expect(await openIdentity(files, randomness, '/data')).toEqual(made);
});

test('an identity that was told survives a power cut', async () => {
  const { files, randomness } = await world();
  const made = await openIdentity(files, randomness, '/data');
  const after = files.crash({ seed: 1, fate: 'lose' });
  expect(await openIdentity(after, randomness, '/data')).toEqual(made);
});

test('a directory with something else in it is refused and left alone', async () => {
  const platform = await world();
  await put(platform, '/data/holiday.jpg', 'x');
  await expect(openIdentity(platform.files, platform.randomness, '/data')).rejects.toMatchObject({
    code: 'data-not-ours',
  });
  expect(await platform.files.list('/data')).toEqual(['holiday.jpg']);
});

test("an agent's state directory is refused by its name, before anything is looked at", async () => {
  const { files, ...platform } = await world();
  await refuseAgentState(files, '/data');
  await put({ files, ...platform }, '/data/identity', 'x');
  await refuseAgentState(files, '/data');
  await put({ files, ...platform }, '/data/hot.log', 'x');
  await expect(refuseAgentState(files, '/data')).rejects.toMatchObject({
    code: 'data-not-ours',
    message: expect.stringContaining('/data is the state directory of a repagent') as string,
  });
});

test('any changed byte of the identity is noticed', async () => {
  const platform = await world();
  await openIdentity(platform.files, platform.randomness, '/data');
  const good = await get(platform, '/data/hub.json');
  for (let at = 0; at < good.trimEnd().length; at += 1) {
    const changed = `${good.slice(0, at)}${good[at] === '7' ? '8' : '7'}${good.slice(at + 1)}`;
    await put(platform, '/data/hub.json', changed);
    await expect(openIdentity(platform.files, platform.randomness, '/data'), changed).rejects.toMatchObject({
      code: 'data-identity',
    });
  }
});

test('a newer format is refused by its number', async () => {
  const platform = await world();
  const hubId = '00000000-0000-4000-8000-000000000001';
  await put(
    platform,
    '/data/hub.json',
    JSON.stringify({ magic: 'rephub-data', format: 2, hubId, epoch: 1, checksum: crc32(`2 ${hubId} 1`) }),
  );
  await expect(openIdentity(platform.files, platform.randomness, '/data')).rejects.toMatchObject({
    code: 'data-version',
  });
});
