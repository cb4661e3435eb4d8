/** What the hub counts, as plain numbers: cheap to raise on any path, read when somebody looks. */
import {
  Compression,
  decodeBody,
  figuresOf,
  FrameFlag,
  type FrameHeader,
  FrameType,
  payloadOf,
  type ResyncFigures,
  type ResyncsByCause,
  spanBeginSchema,
} from '@rephub/protocol';

/** Counts by a short, bounded label. */
export class LabelledCounter {
  readonly #counts = new Map<string, number>();

  add(label: string): void {
    this.#counts.set(label, (this.#counts.get(label) ?? 0) + 1);
  }

  get entries(): ReadonlyMap<string, number> {
    return this.#counts;
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

  /** Of spans: what came for them, decompressed. Nothing is compared here. */
  readonly resyncs: ResyncsByCause = {};
  /** Of the span that began last; null: none has since the hub's start. */
  #span: ResyncFigures | null = null;

  took(header: FrameHeader, raw: readonly Buffer[]): void {
    if (header.type === FrameType.SpanBegin) this.#span = figuresOf(this.resyncs, causeOf(header, raw));
    if (header.type === FrameType.SpanEnd) this.#openSpan.ended += 1;
    const isCopy = (header.flags & FrameFlag.Copied) !== 0 && (header.flags & FrameFlag.Answer) === 0;
    if (isCopy && header.type === FrameType.Write) this.#openSpan.sentBytes += header.length;
    const isWrite = header.type === FrameType.Write;
    this.records += 1;
    this.recordBytes += header.storedLength;
    this.rawBytes += isWrite ? header.length : header.storedLength;
    if (isWrite) this.compression = header.compression === 0 ? 'none' : nameOf(header.compression);
  }

  /** One that was begun before this hub was started has a cause that it was not told. */
  get #openSpan(): ResyncFigures {
    return (this.#span ??= figuresOf(this.resyncs, ''));
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

function causeOf(header: FrameHeader, raw: readonly Buffer[]): string {
  try {
    const what = `record ${header.number}`;
    return decodeBody(spanBeginSchema, Buffer.concat(payloadOf(header, raw)), what).cause;
  } catch {
    // Another version's: what came for it is counted all the same.
    return '';
  }
}

function nameOf(compression: number): keyof typeof Compression {
  return compression === Compression.lz4 ? 'lz4' : 'zstd';
}
