/**
 * Compressed payloads: which codec a frame's number means, what two sides agree upon, and the way back to the raw bytes.
 *
 * Always holds: what `unpack` returns has the length and the checksum that the header says; everything else is a
 * ProtocolFault, whatever the bytes are, and memory is bounded by the header's length (at most 32 MiB).
 * Must not know: when compressing pays, where frames come from.
 */
import { type BlockCodec, type CodecName, crc32, ProtocolFault } from '@rephub/platform';
import { type FrameHeader } from './frame.js';
import { bodyBytes } from './control.js';

/** As in the frame's header. */
export const Compression = { none: 0, zstd: 1, lz4: 2 } as const;

/** A payload as it is carried. */
export interface PackedPayload {
  /** One of Compression. */
  readonly compression: number;
  readonly slices: readonly Buffer[];
  readonly bytes: number;
}

/** What a side says in Hello or Welcome of a codec that it has. */
export function codecFeature(name: CodecName): string {
  return `compress-${name}`;
}

/** The features that these codecs come to. */
export function codecFeatures(codecs: readonly BlockCodec[]): string[] {
  return codecs.map(({ name }) => codecFeature(name));
}

/** The codec of a header's compression, if it is among these. */
export function codecOf(compression: number, codecs: readonly BlockCodec[]): BlockCodec | null {
  return codecs.find(({ name }) => Compression[name] === compression) ?? null;
}

/**
 * The raw bytes of a compressed payload. Throws a ProtocolFault: `payload-codec` where the codec is not at hand,
 * `payload-compressed` where the bytes are not `header.length` bytes compressed, `payload-checksum` where they are not those
 * that the header speaks of.
 */
export function unpack(header: FrameHeader, stored: Buffer, codecs: readonly BlockCodec[]): Buffer {
  const codec = codecOf(header.compression, codecs);
  if (codec === null) {
    throw new ProtocolFault(
      'payload-codec',
      `record ${header.number} has compression ${header.compression}, which is not to be had here`,
    );
  }
  const raw = codec.decompress(stored, header.length);
  if (raw === null) {
    throw new ProtocolFault(
      'payload-compressed',
      `payload of record ${header.number} is not ${header.length} bytes of ${codec.name}`,
    );
  }
  if (crc32(raw) !== header.rawChecksum) {
    throw new ProtocolFault(
      'payload-checksum',
      `payload of record ${header.number} does not match its checksum once it is decompressed`,
    );
  }
  return raw;
}

/** The raw payload of a frame as it came. Throws as `unpack` does. */
export function rawPayload(header: FrameHeader, raw: readonly Buffer[], codecs: readonly BlockCodec[]): Buffer {
  const stored = bodyBytes(header, raw);
  return header.compression === Compression.none ? stored : unpack(header, stored, codecs);
}
