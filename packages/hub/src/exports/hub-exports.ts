/**
 * What the hub exports over NBD, as the server asks for it: `GROUP/VOLUME` and its points, read-only, and
 * the read-write exports of open tests.
 *
 * Always holds (PIT): a point is resolved once, when the client opens the export, and does not move under
 * it; names that can move never advertise CAN_MULTI_CONN, so that two connections cannot mix two moments.
 */
import type { BlockDevice, BlockRequest, ExportDirectory, ExportEntry, OpenExport, OpenRefusal } from '@rephub/nbd';
import { ConfigFault } from '@rephub/platform';
import type { Group } from '../group/group.js';
import { agentTimeText } from '../group/group-status.js';
import { exportName, parseExportName, type Point } from './export-names.js';

/** Where the groups are found; `null` for one that there is not. */
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
  try {
    return name.kind === 'test'
      ? openTest(group, name.volume, name.test)
      : await openPoint(group, name.volume, name.point, text);
  } catch (thrown) {
    if (!(thrown instanceof ConfigFault)) throw thrown;
    const unknown = thrown.code === 'unknown-volume' || thrown.code === 'unknown-point';
    return { refused: unknown ? 'unknown' : 'policy', message: thrown.message };
  }
}

async function openPoint(
  group: Group,
  volume: string,
  point: Point,
  fullName: string,
): Promise<OpenExport | OpenRefusal> {
  const { store } = group;
  if (store === null) {
    return { refused: 'policy', message: `group ${group.name} is not open: ${group.trouble ?? 'it is new'}` };
  }
  const latest = store.progress.consistentNumber;
  if (latest === null) {
    return {
      refused: 'policy',
      message: `group ${group.name} has not finished its first sync: no point can be opened yet`,
    };
  }
  if (point.kind === 'number' && point.number !== latest) {
    return {
      refused: 'policy',
      message: `number ${point.number} of group ${group.name} cannot be opened in this version, only the latest, ${latest}`,
    };
  }
  const held = await group.views.hold(store, point.kind === 'number' ? point.number : null);
  try {
    const device = held.view.device(volume);
    return {
      device: withMultiConn(device, point.kind === 'number'),
      name: fullName,
      description: `${group.name}/${volume} at number ${held.view.number} of ${agentTimeText(held.view.agentTimeUs)}`,
      release: () => held.release(),
    };
  } catch (thrown) {
    held.release();
    throw thrown;
  }
}

function openTest(group: Group, volume: string, test: string): OpenExport | OpenRefusal {
  const branch = group.tests.branch(test);
  if (branch === null) {
    return { refused: 'unknown', message: `group ${group.name} has no open test called ${test}` };
  }
  const device = branch.device(volume);
  group.tests.client(test, 1);
  return {
    device: withMultiConn(device, true),
    name: exportName(group.name, volume, test),
    description: `test ${test} of ${group.name}/${volume}, branched at number ${branch.number} of ${agentTimeText(branch.agentTimeUs)}`,
    release: () => group.tests.client(test, -1),
  };
}

/** The device with this answer to CAN_MULTI_CONN. All else goes straight through. */
function withMultiConn(device: BlockDevice, multiConn: boolean): BlockDevice {
  if (device.abilities.multiConn === multiConn) return device;
  return {
    sizeBytes: device.sizeBytes,
    abilities: { ...device.abilities, multiConn },
    limits: device.limits,
    submit: (request: BlockRequest) => device.submit(request),
    close: async () => await device.close(),
  };
}
