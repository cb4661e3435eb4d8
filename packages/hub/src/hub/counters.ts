/** What the hub counts, as plain numbers: cheap to raise on any path, read when somebody looks. */
import { Compression, type FrameHeader, FrameType } from '@rephub/protocol';

/** Counts by a short, bounded label. */
export class LabelledCounter {
  readonly #counts = new Map<string, number>();

  add(label: string): void {
    this.#counts.set(label, (this.#counts.get(label) ?? 0) + 1);
  }

  get entries(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  get total(): number {
    let sum = 0;
    for (const count of this.#counts.values()) sum += count;
    return sum;
  }
}

/** Of the hub as a whole. */
export class HubCounters {
  agentConnections = 0;
  /** Connections of agents that ended, by fault code; `bye` for an orderly end. */
  readonly sessionEnds = new LabelledCounter();
  /** NBD connections that ended because of what the client did, by fault code. */
  readonly nbdFaults = new LabelledCounter();
}

/** Of one group, since the hub's start. */
export class GroupCounters {
  sessions = 0;
  records = 0;
  /** Payload of records as they came. */
  recordBytes = 0;
  /** The same, decompressed. */
  rawBytes = 0;
  /** How the last write came: `none`, or the codec that is in force. */
  compression: keyof typeof Compression = 'none';
  acks = 0;
  remoteReads = 0;
  testsOpened = 0;
  /** Of source and replica that were told to differ, by verifications and samples. */
  differsBytes = 0;

  took(header: FrameHeader): void {
    const isWrite = header.type === FrameType.Write;
    this.records += 1;
    this.recordBytes += header.storedLength;
    this.rawBytes += isWrite ? header.length : header.storedLength;
    if (isWrite) this.compression = header.compression === 0 ? 'none' : nameOf(header.compression);
  }

  /** For the status. */
  get received(): Received {
    const { rawBytes, recordBytes, compression } = this;
    return { rawBytes, carriedBytes: recordBytes, compression };
  }
}

/** What came over the link since the hub's start, payload only. */
export interface Received {
  readonly rawBytes: number;
  readonly carriedBytes: number;
  readonly compression: keyof typeof Compression;
}

function nameOf(compression: number): keyof typeof Compression {
  return compression === Compression.lz4 ? 'lz4' : 'zstd';
}
