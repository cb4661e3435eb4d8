/**
 * What goes over the link, overheard at the agent's end: the records as a chain of header checksums, and the hub's
 * acknowledgements. From the records an independent replica is folded, to judge the real one by.
 */
import { uuidBytes } from '@rephub/platform';
import { ForwardingConnection, type HostNetwork, type SimConnection, tappedNetwork } from '@rephub/platform/sim';
import {
  ackSchema,
  chainStart,
  decodeBody,
  FrameReader,
  type FrameHeader,
  FrameType,
  payloadOf,
} from '@rephub/protocol';
import { emptyPages, PAGE, pageId, type Pages } from './pages.js';

interface HeardRecord {
  readonly number: number;
  readonly previous: number;
  readonly type: FrameType;
  readonly volume: number;
  readonly page: number;
  /** What its pages hold afterwards; of a volume that is added: zeroes. */
  readonly ids: Pages;
}

/** A record, as the hub names its last one. */
export interface RecordName {
  readonly number: number;
  readonly checksum: number;
}

/** What a replica held when the listening began: its last record, and its volumes by index. */
export interface Fold {
  readonly last: RecordName;
  readonly volumes: ReadonlyMap<number, Pages>;
}

export class Wire {
  /** The highest number that the hub has called durable to the agent. */
  durable = 0;
  readonly #base: Fold | null;
  /** By header checksum. */
  readonly #records = new Map<number, HeardRecord>();
  /** What the first record of a line follows on. */
  readonly #starts = new Set<number>();

  constructor(base: Fold | null) {
    this.#base = base;
  }

  /** The network of the agent's host, overheard. */
  overhear(network: HostNetwork): HostNetwork {
    return tappedNetwork(network, (connection, address, side) =>
      side === 'client' && address.kind === 'tcp' ? new Overheard(connection, this) : connection,
    );
  }

  /** A line that there is, with or without records. */
  noteLine(id: string): void {
    this.#starts.add(chainStart(uuidBytes(id)));
  }

  sent(header: FrameHeader, raw: readonly Buffer[]): void {
    if (header.type >= FrameType.Hello) return;
    this.#starts.add(chainStart(header.line));
    this.#records.set(header.headerChecksum, {
      number: header.number,
      previous: header.previousChecksum,
      type: header.type,
      volume: header.volume,
      page: header.offset / PAGE,
      ids: idsOf(header, raw),
    });
  }

  received(header: FrameHeader, raw: readonly Buffer[]): void {
    if (header.type !== FrameType.Ack) return;
    const ack = decodeBody(ackSchema, Buffer.concat(payloadOf(header, raw)), 'ack');
    this.durable = Math.max(this.durable, ack.durable);
  }

  /**
   * The replica that ends with this record, or as it was at an earlier `number` of the same line: its volumes by
   * index. Throws when a record on the way was never sent.
   */
  foldAt(last: RecordName, number = last.number): Map<number, Pages> {
    const chain: HeardRecord[] = [];
    let { checksum } = last;
    while (checksum !== this.#base?.last.checksum && !this.#starts.has(checksum)) {
      const record = this.#records.get(checksum);
      if (record === undefined)
        throw new Error(`the hub has a record that was never sent, at or before ${last.number}`);
      if (record.number <= number) chain.push(record);
      checksum = record.previous;
    }
    const volumes = new Map<number, Pages>();
    if (checksum === this.#base?.last.checksum) {
      for (const [index, pages] of this.#base.volumes) volumes.set(index, pages.slice());
    }
    for (const record of chain.reverse()) apply(volumes, record);
    return volumes;
  }
}

function apply(volumes: Map<number, Pages>, { type, volume, page, ids }: HeardRecord): void {
  if (type === FrameType.VolumeAdded) volumes.set(volume, ids);
  else if (type === FrameType.VolumeRemoved) volumes.delete(volume);
  // What changes nothing has no pages.
  else volumes.get(volume)?.set(ids, page);
}

function idsOf(header: FrameHeader, raw: readonly Buffer[]): Pages {
  const { type, offset, length } = header;
  if (type === FrameType.VolumeAdded) return emptyPages(length);
  if (type !== FrameType.Write && type !== FrameType.Zero && type !== FrameType.Discard) return emptyPages(0);
  if (offset % PAGE !== 0 || length % PAGE !== 0) throw new Error(`a record of ${length} bytes at ${offset}: no pages`);
  const ids = emptyPages(length);
  if (type !== FrameType.Write) return ids;
  const payload = Buffer.concat(payloadOf(header, raw));
  for (let page = 0; page < ids.length; page += 1) ids[page] = pageId(payload.subarray(page * PAGE, (page + 1) * PAGE));
  return ids;
}

/** A connection of the agent to the hub, with an ear at both directions. */
class Overheard extends ForwardingConnection {
  readonly #sent: FrameReader;
  readonly #received: FrameReader;

  constructor(inner: SimConnection, wire: Wire) {
    super(inner);
    this.#sent = new FrameReader({ frame: (header, raw) => wire.sent(header, raw) });
    this.#received = new FrameReader({ frame: (header, raw) => wire.received(header, raw) });
  }

  override received(chunk: Buffer): void {
    this.#received.push(Buffer.from(chunk));
    super.received(chunk);
  }

  override send(chunk: Uint8Array): void {
    this.#sent.push(Buffer.from(chunk));
    super.send(chunk);
  }
}
