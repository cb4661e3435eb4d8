/**
 * Our NBD server in the test's own process, on real sockets, over whatever devices a test likes; and our
 * client against other makers' servers. Ends with the scope.
 */
import { join } from 'node:path';
import {
  type BlockDevice,
  connectNbd,
  type ConnectNbdOptions,
  type ExportDirectory,
  exportUri,
  fixedExports,
  type NbdClient,
  NbdServer,
  openFileDevice,
  type ServerFault,
  type ServerLimits,
} from '@rephub/nbd';
import type { Address } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import type { Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

export interface ServedNbd {
  readonly server: NbdServer;
  readonly address: Address;
  /** Of the export of that name; the empty name is the only one. */
  readonly uri: (exportName?: string) => string;
  /** What ended connections so far. */
  readonly faults: ServerFault[];
}

export interface ServeOptions {
  readonly limits?: Partial<ServerLimits>;
  /** A Unix socket is the default. */
  readonly tcp?: boolean;
}

/** Serves these devices by name, or whatever a directory opens. */
export async function serveNbd(
  scope: Scope,
  exports: Readonly<Record<string, BlockDevice>> | ExportDirectory,
  options: ServeOptions = {},
): Promise<ServedNbd> {
  const faults: ServerFault[] = [];
  const server = new NbdServer({
    platform: nodePlatform(),
    exports: isDirectory(exports) ? exports : fixedExports(new Map(Object.entries(exports))),
    limits: options.limits ?? {},
    onFault: (fault) => faults.push(fault),
  });
  scope.defer('our NBD server', () => server.close(1_000));
  const wanted: Address =
    options.tcp === true
      ? { kind: 'tcp', host: '127.0.0.1', port: 0 }
      : { kind: 'unix', path: join(await tempDir(scope), 'ours.sock') };
  const { address } = await server.listen(wanted);
  return { server, address, faults, uri: (exportName = '') => exportUri(address, exportName) };
}

/** A file as a device, closed with the scope. */
export async function fileDevice(scope: Scope, path: string, readOnly = false): Promise<BlockDevice> {
  const device = await openFileDevice(nodePlatform().files, path, { readOnly });
  scope.defer(`device ${path}`, () => device.close());
  return device;
}

/** Our client, connected; closed with the scope. */
export async function ourClient(scope: Scope, uri: string, options: ConnectNbdOptions = {}): Promise<NbdClient> {
  const client = await connectNbd(nodePlatform(), uri, options);
  scope.defer(`client of ${uri}`, () => client.close());
  return client;
}

function isDirectory(exports: Readonly<Record<string, BlockDevice>> | ExportDirectory): exports is ExportDirectory {
  return typeof exports.open === 'function';
}
