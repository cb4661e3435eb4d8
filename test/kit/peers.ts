/**
 * Other makers' NBD servers, on Unix sockets or loopback TCP, ready when the call returns. Each can be started again
 * at the same address: that is what an upstream that vanishes and returns looks like.
 */
import { access, open, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Address, freePort, listens, tcpUri, unixUri } from './addresses.js';
import { type Child, start } from './process.js';
import { Qmp } from './qmp.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';
import { waitUntil } from './wait.js';

/** A server that listens. `address` is what to give again to start another in its place. */
export interface Peer {
  readonly uri: string;
  readonly child: Child;
  readonly address: Address;
}

export interface PeerOptions {
  /** Default: a new Unix socket. 'tcp' takes a free port. */
  readonly at?: Address | 'tcp';
  readonly exportName?: string;
}

async function place(
  scope: Scope,
  options: PeerOptions,
  name: string,
): Promise<{ address: Address; uri: string; pidFile: string }> {
  const dir = await tempDir(scope);
  const address =
    options.at === 'tcp' ? { port: await freePort() } : (options.at ?? { socket: join(dir, `${name}.sock`) });
  if ('socket' in address) await rm(address.socket, { force: true });
  const exportName = options.exportName ?? '';
  const uri = 'socket' in address ? unixUri(address.socket, exportName) : tcpUri(address.port, exportName);
  return { address, uri, pidFile: join(dir, 'pid') };
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

async function ready(child: Child, pidFile: string): Promise<void> {
  await child.waitFor(
    `${child.name} to listen`,
    async () => (await exists(pidFile)) && (await readFile(pidFile, 'utf8')).trim() !== '',
  );
}

/** qemu-nbd over a file or another image; `args` go before the file. */
export async function qemuNbd(
  scope: Scope,
  file: string,
  options: PeerOptions & { readonly args?: readonly string[] } = {},
): Promise<Peer> {
  const { address, uri, pidFile } = await place(scope, options, 'qemu');
  const where = 'socket' in address ? ['-k', address.socket] : ['-b', '127.0.0.1', '-p', String(address.port)];
  const child = start(scope, 'qemu-nbd', [
    ...[
      '--persistent',
      '--shared=16',
      '--format=raw',
      '--discard=unmap',
      `--pid-file=${pidFile}`,
      `--export-name=${options.exportName ?? ''}`,
    ],
    ...where,
    ...(options.args ?? []),
    file,
  ]);
  await ready(child, pidFile);
  return { uri, child, address };
}

/** nbdkit with any plugin and filters: `nbdkit(scope, ['memory', '1G'])`. */
export async function nbdkit(scope: Scope, args: readonly string[], options: PeerOptions = {}): Promise<Peer> {
  const { address, uri, pidFile } = await place(scope, options, 'kit');
  const where = 'socket' in address ? ['-U', address.socket] : ['-i', '127.0.0.1', '-p', String(address.port)];
  const child = start(scope, 'nbdkit', ['-f', '-P', pidFile, ...where, ...args]);
  await ready(child, pidFile);
  return { uri, child, address };
}

/**
 * nbd-server, the reference implementation, over a file. It knows exports by name only. It always goes to the background
 * and forks for each client, so it gets a process namespace of its own, which ends as one.
 */
export async function nbdServer(
  scope: Scope,
  file: string,
  options: PeerOptions & { readonly settings?: readonly string[] } = {},
): Promise<Peer> {
  const exportName = options.exportName ?? 'disk';
  const { address, uri, pidFile } = await place(scope, { ...options, exportName }, 'nbds');
  const config = join(dirname(pidFile), 'nbd-server.conf');
  const where =
    'socket' in address ? [`unixsock = ${address.socket}`, `port = ${await freePort()}`] : [`port = ${address.port}`];
  const settings = options.settings ?? ['flush = true', 'fua = true', 'trim = true'];
  const lines = [
    '[generic]',
    'listenaddr = 127.0.0.1',
    ...where,
    `[${exportName}]`,
    `exportname = ${file}`,
    ...settings,
    '',
  ];
  await writeFile(config, lines.join('\n'));
  const inside = `nbd-server -C '${config}' -p '${pidFile}' && exec sleep infinity`;
  const child = start(scope, 'unshare', ['--pid', '--fork', '--kill-child', '--', 'sh', '-c', inside], {
    stopWithinMs: 1,
  });
  await child.waitFor('nbd-server to listen', async () => await listens(address));
  return { uri, child, address };
}

/** An NBD node for QEMU's command lines, with or without patience for a server that comes back. */
export function qemuNode(name: string, address: Address, exportName = '', reconnectDelaySeconds = 0): string {
  const server =
    'socket' in address
      ? `server.type=unix,server.path=${address.socket}`
      : `server.type=inet,server.host=127.0.0.1,server.port=${address.port}`;
  return `driver=nbd,node-name=${name},${server},export=${exportName},reconnect-delay=${reconnectDelaySeconds}`;
}

/**
 * qemu-storage-daemon that passes one NBD server on: QEMU's own proxy. With `reconnectDelaySeconds` it is the patient
 * client that a VM is; with `mirrorTo` it is QEMU's active mirror, returned once the mirror is ready.
 */
export async function qemuPassThrough(
  scope: Scope,
  source: Address & { readonly exportName?: string },
  options: { readonly reconnectDelaySeconds?: number; readonly mirrorTo?: Address; readonly iothread?: boolean } = {},
): Promise<Peer & { readonly qmp: Qmp }> {
  const { address, uri, pidFile } = await place(scope, {}, 'qsd');
  if (!('socket' in address)) throw new Error('unreachable: no port was asked for');
  const monitor = join(dirname(pidFile), 'qmp.sock');
  const child = start(
    scope,
    'qemu-storage-daemon',
    [
      ...['--blockdev', qemuNode('source', source, source.exportName ?? '', options.reconnectDelaySeconds ?? 0)],
      ...(options.mirrorTo === undefined ? [] : ['--blockdev', qemuNode('target', options.mirrorTo)]),
      ...['--nbd-server', `addr.type=unix,addr.path=${address.socket}`],
      ...['--export', 'type=nbd,id=out,node-name=source,name=,writable=on'],
      ...['--chardev', `socket,id=monitor,path=${monitor},server=on,wait=off`, '--monitor', 'chardev=monitor'],
      ...['--pidfile', pidFile],
      // A patient client whose server has gone for good does not stop by itself.
    ],
    { stopWithinMs: 2000 },
  );
  await ready(child, pidFile);
  const qmp = await Qmp.connect(monitor);
  scope.defer('QMP connection', async () => {
    qmp.close();
    await Promise.resolve();
  });
  if (options.mirrorTo !== undefined) {
    await qmp.execute('blockdev-mirror', {
      'job-id': 'mirror',
      device: 'source',
      target: 'target',
      sync: 'full',
      'copy-mode': 'write-blocking',
    });
    await mirrorReady(qmp);
  }
  return { uri, child, address, qmp };
}

/** Waits until an active mirror has copied everything and passes writes on synchronously. */
async function mirrorReady(qmp: Qmp): Promise<void> {
  await waitUntil(
    'the mirror to be ready',
    async () => {
      const jobs = (await qmp.execute('query-jobs')) as readonly { id: string; status: string; error?: string }[];
      const job = jobs.find(({ id }) => id === 'mirror');
      if (job?.error !== undefined) throw new Error(`the mirror failed: ${job.error}`);
      return job?.status === 'ready';
    },
    { timeoutMs: 120_000 },
  );
}

/** A sparse file of this size in a folder of its own; `below` another place than temporary files usually have. */
export async function sparseFile(scope: Scope, sizeBytes: number, name = 'disk.raw', below?: string): Promise<string> {
  const dir = await tempDir(scope, below);
  const path = join(dir, name);
  const file = await open(path, 'wx');
  await file.truncate(sizeBytes);
  await file.close();
  return path;
}
