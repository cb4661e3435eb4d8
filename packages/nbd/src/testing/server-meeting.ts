/** A server in memory with exports of every kind, met by a client that is nothing but bytes. */
import type { BlockDevice } from '../block-device.js';
import { memoryDevice } from '../memory-device.js';
import type { ExportDirectory, OpenExport, OpenRefusal } from '../server/exports.js';
import type { ServerFault, ServerLimits } from '../server/limits.js';
import { NbdServer } from '../server/server.js';
import { ManualClock, settle } from './manual-clock.js';
import { memoryNetwork } from './memory-network.js';
import { counted, option, optionReplies, RawPeer, u16, u32 } from './raw-peer.js';

/** Of the export `disk`. */
export const SIZE = 1024 * 1024;
export const ADDRESS = { kind: 'tcp', host: 'here', port: 1 } as const;
/** `disk`, also as the empty name, and names that are refused in every way there is. */
export class Directory implements ExportDirectory {
  open_ = 0;
  opened = 0;
  /** How often all names were asked for. */
  listed = 0;
  entries = [
    { name: 'disk', description: 'a disk' },
    { name: 'ü', description: '' },
  ];
  /** Opening waits for this. */
  gate: Promise<void> = Promise.resolve();
  device: BlockDevice = memoryDevice(SIZE, {
    abilities: { contexts: ['base:allocation', 'rephub:dirty', 'rephub:changed:x'] },
    limits: { minimumBytes: 512 },
  });

  list(): { name: string; description: string }[] {
    this.listed++;
    return this.entries;
  }

  async open(name: string): Promise<OpenExport | OpenRefusal> {
    await this.gate;
    if (name === 'broken') throw new Error('a bug');
    if (name === 'closing') return { refused: 'shutdown', message: 'going down' };
    if (name === 'secret') return { refused: 'policy', message: 'not for you' };
    if (name === 'taken')
      return { ...this.#one(name), begin: () => ({ refused: 'policy', message: 'one writer only' }) };
    if (name !== 'disk' && name !== '') return { refused: 'unknown', message: `no ${name}` };
    return this.#one('disk');
  }

  #one(name: string): OpenExport {
    this.open_++;
    this.opened++;
    return {
      device: this.device,
      name,
      description: 'a disk',
      release: () => {
        this.open_--;
      },
    };
  }
}

/** A client that has greeted, as bytes, and the server it talks to. */
export interface Meeting {
  readonly peer: RawPeer;
  readonly directory: Directory;
  readonly faults: ServerFault[];
  readonly clock: ManualClock;
  readonly server: NbdServer;
  /** Sends options and gives the replies. */
  readonly ask: (...options: readonly Buffer[]) => Promise<ReturnType<typeof optionReplies>>;
}

export async function meet(clientFlags = 3, limits: Partial<ServerLimits> = {}): Promise<Meeting> {
  const clock = new ManualClock();
  const network = memoryNetwork();
  const directory = new Directory();
  const faults: ServerFault[] = [];
  const server = new NbdServer({
    platform: { clock, network },
    exports: directory,
    limits,
    onFault: (one) => faults.push(one),
  });
  await server.listen(ADDRESS);
  const peer = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
  await settle();
  const greeting = peer.take().toString('latin1');
  if (greeting !== 'NBDMAGICIHAVEOPT\x00\x03') throw new Error(`not a greeting: ${greeting}`);
  peer.send(u32(clientFlags));
  const ask = async (...options: readonly Buffer[]): Promise<ReturnType<typeof optionReplies>> => {
    peer.send(...options);
    await settle();
    return optionReplies(peer.take());
  };
  return { peer, directory, faults, clock, server, ask };
}

export const infoOption = (type: number, name: string, ...infos: readonly number[]): Buffer =>
  option(type, counted(name), u16(infos.length), ...infos.map(u16));
export const metaOption = (type: number, name: string, ...queries: readonly string[]): Buffer =>
  option(type, counted(name), u32(queries.length), ...queries.map(counted));
