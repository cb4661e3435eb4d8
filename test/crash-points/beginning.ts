/** Where worlds begin: disks with or without a first sync behind them. Never changed: each world begins on copies. */
import type { AgentConfig } from '@rephub/agent';
import { SimFiles } from '@rephub/platform/sim';
import { type JudgedVolume, upstreamOf } from './judge.js';
import { World } from './kit.js';
import { PAGE, type Pages } from './pages.js';
import type { Fold } from './wire.js';

export interface Setting {
  readonly volumes: readonly JudgedVolume[];
  /** Has a disk, and is protected once it is added. */
  readonly spare?: JudgedVolume;
  readonly agent?: Partial<AgentConfig>;
}

/** Where a world begins: disks, and what is on them. Never changed: worlds begin on copies. */
export interface Beginning {
  readonly setting: Setting;
  readonly agentDisk: SimFiles;
  readonly hubDisk: SimFiles;
  /** What the hub holds; null before it knows the group. */
  readonly fold: Fold | null;
  readonly upstream: readonly Pages[];
}

/** A disk file with content in `pages`, synced. */
async function makeDisk(files: SimFiles, { name, sizeBytes }: JudgedVolume, pages: readonly number[]): Promise<void> {
  const file = await files.open(`/${name}.raw`, 'create-new');
  await file.truncate(sizeBytes);
  for (const page of pages.filter((page) => page < sizeBytes / PAGE)) {
    await file.write([Buffer.alloc(PAGE, `old page ${page}; `)], page * PAGE);
  }
  await file.sync();
  await file.close();
  await files.syncDirectory('/');
}

/** Disks with some data in them, and no agent or hub yet. */
export async function blank(setting: Setting, pages: readonly number[]): Promise<Beginning> {
  const agentDisk = new SimFiles();
  for (const volume of setting.volumes) await makeDisk(agentDisk, volume, pages);
  if (setting.spare !== undefined) await makeDisk(agentDisk, setting.spare, []);
  return { setting, agentDisk, hubDisk: new SimFiles(), fold: null, upstream: upstreamOf(agentDisk, setting.volumes) };
}

/** The same after a first sync and an orderly stop. */
export async function inStep(setting: Setting, pages: readonly number[]): Promise<Beginning> {
  const world = new World(await blank(setting, pages), 1);
  world.startHub();
  await world.startAgent();
  await world.protected();
  await world.pass(20_000);
  return await world.asBeginning();
}
