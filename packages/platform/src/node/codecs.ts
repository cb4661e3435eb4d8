/**
 * The codecs of this machine: LZ4 through lz4-napi (without it, slower, in this process), zstd through Node's own zlib
 * where that has it, else through libzstd.so.1; without either there is no zstd.
 *
 * Must not know: which of them is agreed upon, when compressing pays.
 */
import { createRequire } from 'node:module';
import * as zlib from 'node:zlib';
import type * as Koffi from 'koffi';
import { type BlockCodec } from '../block-codec.js';
import { namesLength, pureLz4 } from '../lz4-block.js';

const ZSTD_LEVEL = 1;
const load = createRequire(import.meta.url);

let loaded: readonly BlockCodec[] | undefined;

/** Loaded once per process, the fastest first. */
export function nodeCodecs(): readonly BlockCodec[] {
  if (loaded === undefined) {
    const zstd = zstdOfNode() ?? zstdOfSystem();
    loaded = zstd === null ? [nativeLz4() ?? pureLz4] : [nativeLz4() ?? pureLz4, zstd];
  }
  return loaded;
}

interface Lz4Napi {
  compressSync(raw: Buffer): Buffer;
  uncompressSync(packed: Uint8Array): Buffer;
}

/** Null where there is no build of it for this machine. */
export function nativeLz4(): BlockCodec | null {
  let native: Lz4Napi;
  try {
    native = load('lz4-napi') as Lz4Napi;
  } catch {
    return null;
  }
  return {
    name: 'lz4',
    compress: (raw) => native.compressSync(bufferOf(raw)),
    decompress: (packed, rawBytes) => {
      // It takes as much memory as the bytes say: these are looked at first.
      if (!namesLength(packed, rawBytes)) return null;
      try {
        const raw = native.uncompressSync(packed);
        return raw.length === rawBytes ? raw : null;
      } catch {
        return null;
      }
    },
  };
}

interface ZstdZlib {
  zstdCompressSync(raw: Uint8Array, options: object): Buffer;
  zstdDecompressSync(packed: Uint8Array, options: object): Buffer;
  readonly constants: { readonly ZSTD_c_compressionLevel: number };
}

/** Node 22.15 and later. */
function zstdOfNode(): BlockCodec | null {
  if (!('zstdCompressSync' in zlib)) return null;
  const node = zlib as unknown as ZstdZlib;
  const params = { [node.constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL };
  return {
    name: 'zstd',
    compress: (raw) => node.zstdCompressSync(raw, { params }),
    decompress: (packed, rawBytes) => {
      try {
        const raw = node.zstdDecompressSync(packed, { maxOutputLength: rawBytes });
        return raw.length === rawBytes ? raw : null;
      } catch {
        return null;
      }
    },
  };
}

/** Null where koffi or the library is not there. */
export function zstdOfSystem(): BlockCodec | null {
  try {
    return bindZstd((load('koffi') as typeof Koffi).load('libzstd.so.1'));
  } catch {
    return null;
  }
}

function bindZstd(library: Koffi.LibraryHandle): BlockCodec {
  const bound = library.func('size_t ZSTD_compressBound(size_t)') as (bytes: number) => number | bigint;
  const isError = library.func('unsigned int ZSTD_isError(size_t)') as (result: number | bigint) => number;
  const compress = library.func('size_t ZSTD_compress(void *, size_t, const void *, size_t, int)') as (
    ...parameters: readonly [Buffer, number, Uint8Array, number, number]
  ) => number | bigint;
  const decompress = library.func('size_t ZSTD_decompress(void *, size_t, const void *, size_t)') as (
    ...parameters: readonly [Buffer, number, Uint8Array, number]
  ) => number | bigint;
  return {
    name: 'zstd',
    compress: (raw) => {
      const out = Buffer.allocUnsafe(Number(bound(raw.length)));
      const made = compress(out, out.length, raw, raw.length, ZSTD_LEVEL);
      // It can only fail for want of memory or of room, and there is room: sent as it is, then.
      return isError(made) === 0 ? out.subarray(0, Number(made)) : bufferOf(raw);
    },
    decompress: (packed, rawBytes) => {
      const raw = Buffer.allocUnsafe(rawBytes);
      const made = decompress(raw, rawBytes, packed, packed.length);
      return isError(made) === 0 && Number(made) === rawBytes ? raw : null;
    },
  };
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
