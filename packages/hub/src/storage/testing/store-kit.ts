/** What the tests of the storage share: opening stores, and comparing what they serve with the model. */
import { type BlockDevice, DeviceError, readBytes } from '@rephub/nbd';
import { type FileSystem, type Logger, silentLogger } from '@rephub/platform';
import { type SimFiles } from '@rephub/platform/sim';
import { openGroupStore } from '../group-store.js';
import type { GroupStore, GroupStoreOptions, StorePlatform, View } from '../store-types.js';
import { type ModelVolume, type ScriptedAgent, UNREADABLE } from './scripted-agent.js';

export const DIRECTORY = '/data/groups/vm1';
export const OWNER = {
  agentId: '00000000-0000-4000-8000-000000000001',
  session: 1,
  nonce: '00000000-0000-4000-8000-000000000002',
};

export async function openStore(
  on: StorePlatform,
  options: Partial<GroupStoreOptions> = {},
  log: Logger = silentLogger,
): Promise<GroupStore> {
  return await openGroupStore(on, {
    directory: DIRECTORY,
    group: 'vm1',
    hubId: '00000000-0000-4000-8000-00000000000f',
    retentionMs: 0,
    segmentBytes: 32 * 1024,
    indexBytes: 64 * 1024 * 1024,
    log,
    ...options,
  });
}

/** A store that has taken, durably, all that this agent has to say. */
export async function startedStore(
  on: StorePlatform,
  agent: ScriptedAgent,
  options: Partial<GroupStoreOptions> = {},
): Promise<GroupStore> {
  const store = await openStore(on, options);
  await store.setOwner(OWNER);
  await store.beginLine(agent.line);
  agent.sendTo(store);
  await store.settled();
  return store;
}

/** The first bytes that differ, or null when the device holds what the model says. */
export async function difference(device: BlockDevice, volume: ModelVolume): Promise<string | null> {
  const { content, name } = volume;
  if (device.sizeBytes !== content.length) return `${name} has ${device.sizeBytes} bytes, expected ${content.length}`;
  const step = 4096;
  for (let from = 0; from < content.length; from += step) {
    const to = Math.min(content.length, from + step);
    const expected = content.subarray(from, to);
    const broken = expected.includes(UNREADABLE);
    let bytes: Buffer;
    try {
      bytes = await readBytes(device, from, to - from);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      if (!broken) return `${name}: ${from} cannot be read, and should`;
      continue;
    }
    if (broken) return `${name}: ${from} can be read, and should not`;
    for (let at = 0; at < bytes.length; at += 1) {
      if (bytes[at] !== expected[at]) return `${name}: byte ${from + at} is ${bytes[at]}, expected ${expected[at]}`;
    }
  }
  return null;
}

/** Throws when a view's volumes are not what the model holds at its number. */
export async function expectView(view: View, agent: ScriptedAgent, note: string): Promise<void> {
  const volumes = agent.modelAt(view.number);
  const names = view.volumes.map(({ name }) => name).sort();
  const expected = volumes.map(({ name }) => name).sort();
  if (names.join() !== expected.join())
    throw new Error(`${note}: volumes ${names.join()}, expected ${expected.join()}`);
  for (const volume of volumes) {
    const found = await difference(view.device(volume.name), volume);
    if (found !== null) throw new Error(`${note}: at number ${view.number}: ${found}`);
  }
}

/** The bytes of a base image, and what the model holds at a number. */
export async function expectBase(files: FileSystem, agent: ScriptedAgent, number: number, note: string): Promise<void> {
  for (const { name, content } of agent.modelAt(number)) {
    const file = await files.open(`${DIRECTORY}/base/${name}.raw`, 'read');
    const { sizeBytes } = await file.status();
    if (sizeBytes !== content.length)
      throw new Error(`${note}: ${name}.raw has ${sizeBytes} bytes, expected ${content.length}`);
    const bytes = Buffer.alloc(sizeBytes);
    await file.read(bytes, 0);
    await file.close();
    for (let at = 0; at < sizeBytes; at += 1) {
      if (content[at] !== UNREADABLE && bytes[at] !== content[at]) {
        throw new Error(`${note}: ${name}.raw byte ${at} is ${bytes[at]}, expected ${content[at]}`);
      }
    }
  }
}

/** Where the frame of a record lies on the disk. */
export async function placeOf(
  disk: SimFiles,
  agent: ScriptedAgent,
  number: number,
): Promise<{ readonly path: string; readonly offset: number; readonly frame: Buffer }> {
  const directory = `${DIRECTORY}/lines/${agent.line.id}`;
  const frame = agent.records.find((record) => record.number === number)?.frame;
  if (frame === undefined) throw new Error(`the agent never made record ${number}`);
  for (const name of await disk.list(directory)) {
    if (!name.endsWith('.seg')) continue;
    const path = `${directory}/${name}`;
    const bytes = Buffer.alloc(64 * 1024);
    disk.look(path, bytes, 0);
    const offset = bytes.indexOf(frame);
    if (offset >= 0) return { path, offset, frame };
  }
  throw new Error(`record ${number} is not in the journal`);
}

/** Flips a bit in the frame of this record, wherever it lies in the journal. */
export async function rotRecord(disk: SimFiles, agent: ScriptedAgent, number: number): Promise<void> {
  const { path, offset, frame } = await placeOf(disk, agent, number);
  disk.rot(path, offset + (frame.length >> 1), 3);
}

/** Bytes that tell where they came from. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = 1 + ((seed * 131 + at * 7) % 255);
  return bytes;
}
