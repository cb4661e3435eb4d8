/**
 * Compression of one payload at a time, whole in, whole out.
 *
 * Always holds: `decompress` never makes more than `rawBytes`, whatever it is given, and never throws for what the bytes
 * are; what `compress` made on one machine is read by the codec of the same name on any other.
 * Must not know: frames, when compressing pays.
 */
export type CodecName = 'lz4' | 'zstd';

export interface BlockCodec {
  readonly name: CodecName;
  /** The result may be larger than `raw`, and is the caller's. */
  compress(raw: Uint8Array): Buffer;
  /** Exactly `rawBytes`, or null where these bytes are not that many compressed. */
  decompress(packed: Uint8Array, rawBytes: number): Buffer | null;
}
