/**
 * What the hub exports over NBD, as the server asks for it: names are listed and taken apart here, and
 * opened by the group that they name.
 */
import type { ExportDirectory, ExportEntry, OpenExport, OpenRefusal } from '@rephub/nbd';
import type { Group } from '../group/group.js';
import { exportName, parseExportName } from '../exports/export-names.js';

/** Where the groups are found. */
export interface GroupSource {
  readonly groups: readonly Group[];
}

export function hubExports(source: GroupSource): ExportDirectory {
  return {
    list: () => source.groups.flatMap(entriesOf),
    open: async (name) => await openByName(source, name),
  };
}

function entriesOf(group: Group): ExportEntry[] {
  const status = group.status();
  if (status.consistentSeq === null) return [];
  const point = `number ${status.consistentSeq} of ${status.consistentTime ?? 'an unknown time'}`;
  return status.volumes.flatMap((volume) => [
    { name: exportName(group.name, volume.name), description: `latest: ${point}` },
    ...status.tests.map((test) => ({
      name: exportName(group.name, volume.name, test.name),
      description: `test ${test.name}: branched at number ${test.seq} of ${test.pointTime}`,
    })),
  ]);
}

async function openByName(source: GroupSource, text: string): Promise<OpenExport | OpenRefusal> {
  const name = parseExportName(text);
  if (name.kind === 'wrong') return { refused: 'unknown', message: name.message };
  const group = source.groups.find((known) => known.name === name.group);
  if (group === undefined) return { refused: 'unknown', message: `there is no group called ${name.group}` };
  return await group.openExport(name, text);
}
