/**
 * An agent for tests: makes the frames of a line, keeps them to send them again, and knows by a model of plain byte
 * arrays what every volume holds at every number.
 */
import { type BlockCodec, uuidBytes } from '@rephub/platform';
import type { Line, PackedPayload } from '@rephub/protocol';
import { chainStart, Compression, encodeBody, FrameReader, FrameType, RecordEncoder } from '@rephub/protocol';
import type { GroupStore } from '../store-types.js';

const SECOND_US = 1_000_000;

export interface ModelVolume {
  readonly index: number;
  readonly name: string;
  /** 0 to 255, or UNREADABLE. */
  content: Int16Array;
}
export const UNREADABLE = -1;

interface SentRecord {
  readonly number: number;
  readonly checksum: number;
  readonly frame: Buffer;
  readonly apply: (volumes: Map<number, ModelVolume>) => void;
  readonly type: FrameType;
}

export class ScriptedAgent {
  readonly line: Line;
  readonly records: SentRecord[] = [];
  readonly #encoder: RecordEncoder;
  readonly #codecs: readonly BlockCodec[];
  #timeUs = 1_700_000_000 * SECOND_US;

  /** With codecs two writes of three are compressed, where that makes them smaller. */
  constructor(id = '11111111-2222-4333-8444-555555555555', codecs: readonly BlockCodec[] = []) {
    this.#codecs = codecs;
    this.line = { id, parent: null };
    const bytes = uuidBytes(id);
    this.#encoder = new RecordEncoder(bytes, 1, chainStart(bytes));
  }

  get lastNumber(): number {
    return this.records[this.records.length - 1]?.number ?? 0;
  }

  addVolume(index: number, name: string, sizeBytes: number): void {
    this.#record(FrameType.VolumeAdded, index, 0, sizeBytes, [encodeBody({ name })], (volumes) => {
      volumes.set(index, { index, name, content: new Int16Array(sizeBytes) });
    });
  }

  removeVolume(index: number): void {
    this.#record(FrameType.VolumeRemoved, index, 0, 0, [], (volumes) => {
      volumes.delete(index);
    });
  }

  resize(index: number, sizeBytes: number): void {
    this.#record(FrameType.Resize, index, 0, sizeBytes, [], (volumes) => {
      const volume = volumes.get(index);
      if (volume === undefined) return;
      const content = new Int16Array(sizeBytes);
      content.set(volume.content.subarray(0, sizeBytes));
      volume.content = content;
    });
  }

  write(index: number, offset: number, bytes: Buffer): void {
    this.#record(FrameType.Write, index, offset, bytes.length, [bytes], (volumes) => {
      volumes.get(index)?.content.set(bytes, offset);
    });
  }

  zero(index: number, offset: number, length: number, discard = false): void {
    this.#fill(discard ? FrameType.Discard : FrameType.Zero, index, offset, length, 0);
  }

  unreadable(index: number, offset: number, length: number): void {
    this.#fill(FrameType.Unreadable, index, offset, length, UNREADABLE);
  }

  flush(index: number): void {
    this.#record(FrameType.Flush, index, 0, 0, [], () => undefined);
  }

  spanBegin(skip = 0, expectedBytes?: number): void {
    if (skip > 0) this.#encoder.skipTo(this.#encoder.nextNumber + skip, this.#encoder.lastChecksum);
    const body = { cause: 'test', continues: false, ...(expectedBytes === undefined ? {} : { expectedBytes }) };
    this.#record(FrameType.SpanBegin, 0, 0, 0, [encodeBody(body)], () => undefined);
  }

  /** What comes next follows this record of the hub's. */
  goOnAfter(nextNumber: number, checksum: number): void {
    this.#encoder.skipTo(nextNumber, checksum);
  }

  /** A span that goes on from what the hub says that it holds last. */
  spanAfter(nextNumber: number, checksum: number): void {
    this.#encoder.skipTo(nextNumber, checksum);
    this.spanBegin();
  }

  spanEnd(): void {
    this.#record(FrameType.SpanEnd, 0, 0, 0, [], () => undefined);
  }

  /** Agent time passes. */
  wait(ms: number): void {
    this.#timeUs += ms * 1000;
  }

  /** These numbers are gone: the agent has only marks of them. */
  forget(from: number, to: number): void {
    const kept = this.records.filter(({ number }) => number < from || number > to);
    this.records.splice(0, this.records.length, ...kept);
  }

  /** Sends all records above the store's last number, in chunks as a socket might bring them. */
  sendTo(store: GroupStore, upTo = Infinity, chunkBytes = 1500): void {
    const from = store.state.lastNumber;
    const frames = this.records.filter(({ number }) => number > from && number <= upTo).map(({ frame }) => frame);
    const stream = Buffer.concat(frames);
    const reader = new FrameReader({
      frame(header, raw) {
        store.append(header, raw);
      },
    });
    for (let at = 0; at < stream.length; at += chunkBytes) reader.push(stream.subarray(at, at + chunkBytes));
  }

  /** What the volumes hold at a number. */
  modelAt(number: number): ModelVolume[] {
    const volumes = new Map<number, ModelVolume>();
    for (const record of this.records) {
      if (record.number > number) break;
      record.apply(volumes);
    }
    return [...volumes.values()];
  }

  /** The newest consistent number at or before `number`; null when there is none. */
  consistentAt(number: number): number | null {
    let consistent: number | null = null;
    let open = false;
    for (const record of this.records) {
      if (record.number > number) break;
      if (record.type === FrameType.SpanBegin) open = true;
      if (record.type === FrameType.SpanEnd) {
        open = false;
        consistent = record.number;
      }
      if (consistent !== null && !open) consistent = record.number;
    }
    return consistent;
  }

  #fill(type: FrameType, index: number, offset: number, length: number, value: number): void {
    this.#record(type, index, offset, length, [], (volumes) => {
      volumes.get(index)?.content.fill(value, offset, offset + length);
    });
  }

  #record(
    type: FrameType,
    volume: number,
    offset: number,
    length: number,
    payload: readonly Buffer[],
    apply: SentRecord['apply'],
  ): void {
    this.#timeUs += 1000;
    const encoder = this.#encoder;
    const packed = type === FrameType.Write ? this.#pack(payload) : null;
    const number = encoder.encode(type, 0, volume, offset, length, this.#timeUs, 0, payload, packed);
    const frame = Buffer.concat([encoder.head, ...(packed?.slices ?? payload), encoder.tail]);
    this.records.push({ number, checksum: encoder.lastChecksum, frame, apply, type });
  }

  #pack(payload: readonly Buffer[]): PackedPayload | null {
    const { nextNumber } = this.#encoder;
    const codec = nextNumber % 3 === 0 ? undefined : this.#codecs[nextNumber % this.#codecs.length];
    if (codec === undefined) return null;
    const raw = Buffer.concat(payload);
    const stored = codec.compress(raw);
    if (stored.length >= raw.length) return null;
    return { compression: Compression[codec.name], slices: [stored], bytes: stored.length };
  }
}
