/**
 * What a server serves, as its owner sees it: names that can be listed, and devices that are opened by
 * name when a client asks. The server knows nothing of what a name means: `vm1/disk0@-15m!x` is the
 * directory's affair.
 *
 * Always holds: every export that was opened is released exactly once, after its client has gone and
 * the last request has come back from the device. The server never closes a device.
 */
import type { BlockDevice } from '../block-device.js';

export interface ExportEntry {
  readonly name: string;
  readonly description: string;
}

/** An export handed to one client. */
export interface OpenExport {
  readonly device: BlockDevice;
  /** The full name, told to clients that ask (NBD_INFO_NAME). */
  readonly name: string;
  /** For people (NBD_INFO_DESCRIPTION); empty is told to nobody. */
  readonly description: string;
  /**
   * Called when a client that has only asked so far goes on to use the export. A refusal ends it there
   * and is told to the client; it is released as always.
   */
  begin?(): OpenRefusal | null;
  /** The client is done with it. */
  release(): void;
}

/** Why an export is not opened; `message` is told to the client. */
export interface OpenRefusal {
  readonly refused: 'unknown' | 'policy' | 'shutdown';
  readonly message: string;
}

export interface ExportDirectory {
  /** What clients are told when they ask for all names. */
  list(): readonly ExportEntry[];
  /** Opens by name, the empty one too. A throw counts as `policy` and is logged. */
  open(name: string): Promise<OpenExport | OpenRefusal>;
}

export function isRefusal(answer: OpenExport | OpenRefusal): answer is OpenRefusal {
  return 'refused' in answer;
}

/** A directory of fixed devices. The empty name opens the only one, when there is only one. */
export function fixedExports(devices: ReadonlyMap<string, BlockDevice>): ExportDirectory {
  const entries = [...devices.keys()].map((name) => ({ name, description: '' }));
  return {
    list: () => entries,
    open(name) {
      const found = devices.has(name) || name !== '' || devices.size !== 1 ? name : (entries[0]?.name ?? '');
      const device = devices.get(found);
      if (device === undefined) {
        return Promise.resolve({ refused: 'unknown', message: `no export is called '${name}'` });
      }
      return Promise.resolve({ device, name: found, description: '', release: () => undefined });
    },
  };
}
