/**
 * What is known of a line after its records so far, and which record may come next. The same code judges records that
 * arrive, records that a restart finds in the journal, and records that have become durable.
 *
 * Always holds: `check` changes nothing; after `check` has passed, `advance` cannot fail.
 * Must not know: files, positions, indexes.
 */
import { ProtocolFault, uuidBytes } from '@rephub/platform';
import { chainStart, type FrameHeader, FrameType, type Line } from '@rephub/protocol';
import type { Point, StoredVolume } from './point.js';

const MOST_VOLUMES = 256;

/** What a line begins with: the number before its first record. */
export function lineStart(line: Line): Point {
  return {
    number: line.parent?.number ?? 0,
    checksum: chainStart(uuidBytes(line.id)),
    timeUs: 0,
    spanOpen: false,
    consistentNumber: null,
    consistentTimeUs: 0,
    volumes: [],
    damage: null,
    hasSkipped: false,
  };
}

/** What of a record changes the state; the rest of it is content. */
export interface RecordFacts {
  readonly type: FrameType;
  readonly volume: number;
  readonly length: number;
  readonly number: number;
  readonly headerChecksum: number;
  readonly agentTimeUs: number;
}

export class LineState {
  readonly #line: Uint8Array;
  readonly #startNumber: number;
  number: number;
  checksum: number;
  timeUs: number;
  spanOpen: boolean;
  consistentNumber: number | null;
  consistentTimeUs: number;
  damage: string | null;
  #hasSkipped: boolean;
  readonly #volumes = new Map<number, StoredVolume>();

  constructor(line: Line, point: Point) {
    this.#line = uuidBytes(line.id);
    this.#startNumber = lineStart(line).number;
    this.number = point.number;
    this.checksum = point.checksum;
    this.timeUs = point.timeUs;
    this.spanOpen = point.spanOpen;
    this.consistentNumber = point.consistentNumber;
    this.consistentTimeUs = point.consistentTimeUs;
    this.damage = point.damage;
    this.#hasSkipped = point.hasSkipped;
    for (const volume of point.volumes) this.#volumes.set(volume.index, volume);
  }

  /** Another one that goes on from here by itself. */
  copy(line: Line): LineState {
    return new LineState(line, this.point());
  }

  /** All that is known, to be stored. */
  point(): Point {
    return {
      number: this.number,
      checksum: this.checksum,
      timeUs: this.timeUs,
      spanOpen: this.spanOpen,
      consistentNumber: this.consistentNumber,
      consistentTimeUs: this.consistentTimeUs,
      volumes: this.volumes(),
      damage: this.damage,
      hasSkipped: this.#hasSkipped,
    };
  }

  volumes(): StoredVolume[] {
    return [...this.#volumes.values()].sort((one, other) => one.index - other.index);
  }

  volume(index: number): StoredVolume | undefined {
    return this.#volumes.get(index);
  }

  /**
   * Throws a ProtocolFault when this record cannot come next: `record-line`, `-number`, `-chain`,
   * `-type`, `-span`, `-volume`, `-range`.
   */
  check(header: FrameHeader): void {
    if (!sameLine(header.line, this.#line))
      throw new ProtocolFault('record-line', `record ${header.number} is of another line`);
    const { type, number } = header;
    if (number !== this.number + 1 && !this.#maySkip(type, number)) {
      throw new ProtocolFault('record-number', `record ${number} came, ${this.number + 1} was expected`);
    }
    if (header.previousChecksum !== this.checksum) {
      throw new ProtocolFault(
        'record-chain',
        `record ${number} does not follow the record ${this.number} that is held`,
      );
    }
    switch (type) {
      case FrameType.Write:
      case FrameType.Zero:
      case FrameType.Discard:
      case FrameType.Unreadable:
        this.#checkRange(header);
        return;
      case FrameType.Flush:
      case FrameType.Checkpoint:
        return;
      case FrameType.Resize:
        this.#checkSize(header);
        this.#known(header);
        return;
      case FrameType.VolumeRemoved:
        this.#known(header);
        return;
      case FrameType.VolumeAdded:
        this.#checkSize(header);
        if (this.#volumes.has(header.volume)) {
          throw new ProtocolFault('record-volume', `record ${number} adds volume ${header.volume} again`);
        }
        if (this.#volumes.size >= MOST_VOLUMES) {
          throw new ProtocolFault('record-volume', `record ${number} adds more than ${MOST_VOLUMES} volumes`);
        }
        return;
      case FrameType.SpanBegin:
        return;
      case FrameType.SpanEnd:
        if (!this.spanOpen) throw new ProtocolFault('record-span', `record ${number} ends a span that has not begun`);
        return;
      default:
        throw new ProtocolFault('record-type', `frame of type ${type} is no record of a line`);
    }
  }

  /** Throws `record-volume` when another volume has the name that a VolumeAdded brings. */
  checkName(number: number, name: string): void {
    for (const volume of this.#volumes.values()) {
      if (volume.name === name) throw new ProtocolFault('record-volume', `record ${number} adds volume ${name} again`);
    }
  }

  /** Takes a record that was checked. `name` comes with a VolumeAdded. */
  advance(record: RecordFacts, name: string | null): void {
    const { type, number } = record;
    // After damage the agent may still have what was lost: then nothing is missing any more.
    if (number !== this.number + 1) this.#hasSkipped = this.damage !== null;
    else if (this.damage !== null && !this.#hasSkipped && !this.spanOpen) this.damage = null;
    this.number = number;
    this.checksum = record.headerChecksum;
    if (record.agentTimeUs > this.timeUs) this.timeUs = record.agentTimeUs;
    switch (type) {
      case FrameType.SpanBegin:
        this.spanOpen = true;
        return;
      case FrameType.SpanEnd:
        this.spanOpen = false;
        this.damage = null;
        this.#hasSkipped = false;
        this.consistentNumber = number;
        break;
      case FrameType.VolumeAdded:
        this.#volumes.set(record.volume, {
          index: record.volume,
          name: name ?? '',
          sizeBytes: record.length,
          added: number,
        });
        break;
      case FrameType.VolumeRemoved:
        this.#volumes.delete(record.volume);
        break;
      case FrameType.Resize: {
        const volume = this.#volumes.get(record.volume);
        if (volume !== undefined) this.#volumes.set(record.volume, { ...volume, sizeBytes: record.length });
        break;
      }
      default:
        break;
    }
    if (!this.spanOpen && this.consistentNumber !== null && this.damage === null) {
      this.consistentNumber = number;
      this.consistentTimeUs = this.timeUs;
    }
  }

  /** The last good point is given up: until a span has ended nothing can be opened. */
  dropConsistent(): void {
    this.consistentNumber = null;
    this.consistentTimeUs = 0;
  }

  #maySkip(type: FrameType, number: number): boolean {
    if (number <= this.number) return false;
    if (type === FrameType.SpanBegin) return true;
    // The agent may have used numbers that this hub never saw: at the start of a line, and after damage.
    return type === FrameType.VolumeAdded && (this.number === this.#startNumber || this.damage !== null);
  }

  #known(header: FrameHeader): StoredVolume {
    const volume = this.#volumes.get(header.volume);
    if (volume === undefined) {
      throw new ProtocolFault(
        'record-volume',
        `record ${header.number} is for volume ${header.volume}, which does not exist`,
      );
    }
    return volume;
  }

  #checkRange(header: FrameHeader): void {
    const volume = this.#known(header);
    if (header.length === 0 || header.offset + header.length > volume.sizeBytes) {
      throw new ProtocolFault(
        'record-range',
        `record ${header.number} speaks of ${header.length} bytes at ${header.offset} of ${volume.name}, which has ${volume.sizeBytes}`,
      );
    }
  }

  #checkSize(header: FrameHeader): void {
    if (header.length === 0)
      throw new ProtocolFault('record-range', `record ${header.number} gives a volume a size of 0`);
  }
}

function sameLine(one: Uint8Array, other: Uint8Array): boolean {
  for (let at = 0; at < 16; at += 1) {
    if (one[at] !== other[at]) return false;
  }
  return true;
}
