/**
 * The exports of one group: its points, read-only, and its open tests, read-write.
 *
 * Always holds (PIT): a point is resolved once, when the client opens the export, and does not move under
 * it; names that can move never advertise CAN_MULTI_CONN, so that two connections cannot mix two moments.
 */
import type { BlockDevice, BlockRequest, OpenExport, OpenRefusal } from '@rephub/nbd';
import { ConfigFault } from '@rephub/platform';
import { exportName, type ExportName, type Point } from '../exports/export-names.js';
import type { GroupStore } from '../storage/index.js';
import { unknownTest } from '../unknown-names.js';
import { agentTimeText } from './group-status.js';
import type { OpenTests } from './open-tests.js';
import type { SharedViews } from './shared-views.js';

/** What a group has to export. */
export interface Exported {
  readonly name: string;
  readonly store: GroupStore | null;
  readonly trouble: string | null;
  readonly tests: OpenTests;
  readonly views: SharedViews;
}

/** Opens an export by its parsed name; `fullName` is told back to the client. */
export async function openGroupExport(
  group: Exported,
  name: Exclude<ExportName, { readonly kind: 'wrong' }>,
  fullName: string,
): Promise<OpenExport | OpenRefusal> {
  try {
    return name.kind === 'test'
      ? openTest(group, name.volume, name.test)
      : await openPoint(group, name.volume, name.point, fullName);
  } catch (thrown) {
    if (!(thrown instanceof ConfigFault)) throw thrown;
    const unknown = thrown.code === 'unknown-volume' || thrown.code === 'unknown-point';
    return { refused: unknown ? 'unknown' : 'policy', message: thrown.message };
  }
}

async function openPoint(
  group: Exported,
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

function openTest(group: Exported, volume: string, test: string): OpenExport | OpenRefusal {
  const branch = group.tests.branch(test);
  if (branch === null) {
    return { refused: 'unknown', message: unknownTest(group.name, test, group.tests.names).message };
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
