/** When all is healed: the catalogue says what the hub's groups and their directories say, whatever became of it at crashes. */
import { type Group } from '@rephub/hub';
import { type SimFiles } from '@rephub/platform/sim';
import { type CataloguedGroup } from './sim-catalogue.js';
import { type World } from './world.js';

/** Journal files may come and go between two looks. */
const LOOKS = 5;

export async function compareCatalogue(world: World): Promise<void> {
  let [says, is] = ['', 'no hub'];
  for (let look = 0; look < LOOKS && says !== is; look += 1) {
    const { hub } = world;
    const groups = hub.up?.hub.groups ?? [];
    for (const group of groups) await world.settle(group.note(), 5_000);
    says = JSON.stringify(hub.catalogue.read());
    is = JSON.stringify(await world.settle(Promise.all(groups.map((group) => truthOf(group, hub.files))), 5_000));
  }
  world.check('CATALOGUE', says === is, () => `all is healed, the catalogue says ${says}, the hub has ${is}`);
}

async function truthOf(group: Group, files: SimFiles): Promise<CataloguedGroup> {
  const state = group.store?.state ?? null;
  const lineNow = state?.line?.id ?? null;
  const directory = `/data/groups/${group.name}/lines`;
  const segments: string[] = [];
  const lines = new Set(lineNow === null ? [] : [lineNow]);
  for (const line of await files.list(directory)) {
    for (const file of await files.list(`${directory}/${line}`)) {
      if (!file.endsWith('.seg')) continue;
      segments.push(`${line}/${file}`);
      lines.add(line);
    }
  }
  return {
    name: group.name,
    line: lineNow,
    owner: state?.owner?.agentId ?? null,
    lastNumber: state?.lastNumber ?? -1,
    volumes: (state?.volumes ?? []).map(({ name }) => name),
    segments: segments.sort(),
    lines: [...lines].sort(),
    openTests: group.tests.names.sort(),
  };
}
