/** A whole hub core in this process: real disk, real sockets on free ports, real storage; no HTTP, no signals. */
import { join } from 'node:path';
import { HubServer, type HubServerOptions, noCatalogue, openGroupStore } from '@rephub/hub';
import type { Address, Platform } from '@rephub/platform';
import { nodePlatform } from '@rephub/platform/node';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

export interface HubInProcess {
  readonly server: HubServer;
  readonly platform: Platform;
  readonly directory: string;
  /** Where agents connect to. */
  readonly agents: Address;
  /** The URI of an export, on the Unix socket. */
  uri(exportName: string): string;
  close(drain?: boolean): Promise<void>;
}

export async function startHub(
  scope: Scope,
  options: Partial<HubServerOptions> & { readonly directory?: string; readonly platform?: Platform } = {},
): Promise<HubInProcess> {
  const folder = await tempDir(scope);
  const platform = options.platform ?? nodePlatform();
  const directory = options.directory ?? join(folder, 'data');
  const server = await HubServer.open(platform, {
    directory,
    software: 'rephub in a test',
    heartbeatMs: 200,
    timeoutMs: 2000,
    listen: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
    nbd: [{ kind: 'unix', path: join(folder, 'nbd.sock') }],
    insecure: false,
    storage: { retentionMs: 3_600_000, indexBytes: 16 * 1024 * 1024 },
    openStore: openGroupStore,
    openCatalogue: () => Promise.resolve(noCatalogue()),
    ...options,
  });
  let closed: Promise<void> | null = null;
  const close = (drain = false): Promise<void> => (closed ??= server.close({ drain, graceMs: 1000 }));
  scope.defer('hub in this process', close);
  const [agents] = server.agentAddresses;
  if (agents === undefined) throw new Error('the hub listens nowhere');
  return { server, platform, directory, agents, uri: (name) => server.exportUris(name)[0] ?? '', close };
}
