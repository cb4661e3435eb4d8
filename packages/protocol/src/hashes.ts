/**
 * Comparing a region without sending it: the agent names a region and a number, the hub answers with a digest of each
 * block as its content was at exactly that number (docs/design.md, "Comparing by checksum"). Owns the two messages, the
 * digest, and the coding of an answer.
 *
 * Always holds: blocks count from the region's offset, the last one may be short; a block of zeroes has no digest, it is
 * said to be zero; an answer covers whole blocks from the offset on, and may stop short of the region's end.
 * Must not know: where content lies, what is done about a difference.
 */
import { ProtocolFault } from '@rephub/platform';
import { createCipheriv } from 'node:crypto';
import { z } from 'zod';

/** The name under which both sides say that they can do this (Hello, Welcome). Another digest takes another name. */
export const HASHES_FEATURE = 'hashes-gmac';

/** An AES-128-GMAC of the block under the request's key: see docs/design.md for why. */
export const DIGEST_BYTES = 16;
export const HASH_KEY_BYTES = 16;
/** A region named in one request, at most: a hole of this size is answered in one run. */
export const MAX_HASHED_BYTES = 64 * 1024 * 1024 * 1024;
/** Runs of one answer, at most. */
const MAX_HASH_RUNS = 8192;
/** Blocks with a digest in one answer, at most: 512 KiB of digests. */
const MAX_DIGESTS = 32 * 1024;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const tag = z.number().int().min(1).max(0xffff_ffff);
/** Copied: what a decoder gives out may be a part of memory that is used again. */
const bytesUpTo = (most: number) =>
  z
    .custom<Uint8Array>(
      (value) => value instanceof Uint8Array && value.length <= most,
      `must be bytes, at most ${most}`,
    )
    .transform((value): Buffer => Buffer.from(value));

/** Agent to hub: what does your content at this number hold there? Sent before any record above `number`. */
export const hashRegionSchema = z.object({
  tag,
  number: count,
  volume: z.number().int().min(0).max(0xffff),
  offset: count,
  length: count.min(1).max(MAX_HASHED_BYTES),
  /** A power of two from 4 KiB to 1 MiB. */
  blockBytes: z
    .number()
    .int()
    .min(4096)
    .max(1024 * 1024)
    .refine((size) => (size & (size - 1)) === 0, 'must be a power of two'),
  key: bytesUpTo(HASH_KEY_BYTES).refine((key) => key.length === HASH_KEY_BYTES, `must be ${HASH_KEY_BYTES} bytes`),
});
export type HashRegion = z.infer<typeof hashRegionSchema>;

export const BlockKind = {
  /** All bytes are zero. */
  Zero: 0,
  /** Has a digest. */
  Data: 1,
  /** The hub cannot read it, or holds it as unreadable at the source. */
  Unreadable: 2,
} as const;
export type BlockKind = (typeof BlockKind)[keyof typeof BlockKind];

/** What a region holds, block by block. */
const regionHashesSchema = z.object({
  /** Bytes from the region's offset on that this answer speaks of. */
  covered: count.min(1).max(MAX_HASHED_BYTES),
  /** How many blocks, of which kind, how many, of which kind, … */
  runs: z
    .array(count)
    .min(2)
    .max(2 * MAX_HASH_RUNS),
  /** Those of the blocks of kind Data, in order. */
  digests: bytesUpTo(MAX_DIGESTS * DIGEST_BYTES),
});
export type RegionHashes = z.infer<typeof regionHashesSchema>;

/** Hub to agent: the answer, or why there is none. */
export const hashesSchema = z
  .object({
    tag,
    hashes: regionHashesSchema.nullable(),
    refused: z.object({ code: z.string().max(4096), message: z.string().max(4096) }).nullable(),
  })
  .refine(({ hashes, refused }) => (hashes === null) !== (refused === null), 'must be an answer or a refusal');
export type Hashes = z.infer<typeof hashesSchema>;

/** Always the same one: it hides nothing here, and equal blocks must have equal digests. */
const NONCE = new Uint8Array(12);

/** The digest of one block, given in parts: the tag of GCM over data that is authenticated only, none enciphered. */
export function digestOf(key: Uint8Array, parts: readonly Uint8Array[]): Buffer {
  const mac = createCipheriv('aes-128-gcm', key, NONCE);
  for (const part of parts) mac.setAAD(part);
  mac.final();
  return mac.getAuthTag();
}

const ZEROES = Buffer.alloc(64 * 1024);

/** True when all bytes of all parts are zero. */
export function allZero(parts: readonly Uint8Array[]): boolean {
  for (const part of parts) {
    for (let at = 0; at < part.length; at += ZEROES.length) {
      const step = Math.min(ZEROES.length, part.length - at);
      if (ZEROES.compare(part, at, at + step, 0, step) !== 0) return false;
    }
  }
  return true;
}

/** Puts an answer together, block after block. */
export class HashesBuilder {
  readonly #blockBytes: number;
  readonly #runs: number[] = [];
  readonly #digests: Buffer[] = [];
  #covered = 0;

  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
  }

  get covered(): number {
    return this.#covered;
  }

  /** One more run or digest would be too many. */
  get isFull(): boolean {
    return this.#runs.length >= 2 * MAX_HASH_RUNS || this.#digests.length >= MAX_DIGESTS;
  }

  /** `length` bytes: whole blocks, but for the region's last one. */
  add(kind: BlockKind, length: number, digest: Buffer | null = null): void {
    const { length: values } = this.#runs;
    const blocks = Math.ceil(length / this.#blockBytes);
    if (values > 0 && this.#runs[values - 1] === kind) this.#runs[values - 2] = (this.#runs[values - 2] ?? 0) + blocks;
    else this.#runs.push(blocks, kind);
    if (digest !== null) this.#digests.push(digest);
    this.#covered += length;
  }

  build(): RegionHashes {
    return { covered: this.#covered, runs: this.#runs, digests: Buffer.concat(this.#digests) };
  }
}

/** An answer that was checked against its request, to be asked block by block in rising order. */
export class HashedRegion {
  readonly coveredBytes: number;
  readonly blockBytes: number;
  readonly #runs: readonly number[];
  readonly #digests: Buffer;
  #run = 0;
  /** First block of the run, and digests before it. */
  #runStart = 0;
  #digestsBefore = 0;

  /** Throws a ProtocolFault `hash-answer` when the answer does not fit the request. */
  constructor(request: Pick<HashRegion, 'length' | 'blockBytes'>, answer: RegionHashes) {
    const { blockBytes, length } = request;
    const { covered, runs } = answer;
    this.coveredBytes = covered;
    this.blockBytes = blockBytes;
    this.#runs = runs;
    this.#digests = answer.digests;
    let blocks = 0;
    let digests = 0;
    for (let at = 0; at < runs.length; at += 2) {
      const many = runs[at] ?? 0;
      const kind = runs[at + 1];
      if (many === 0 || kind === undefined || kind > BlockKind.Unreadable) throw wrong(`run ${many} of kind ${kind}`);
      blocks += many;
      if (kind === BlockKind.Data) digests += many;
    }
    const isWhole = covered === length || (covered < length && covered % blockBytes === 0);
    if (!isWhole || blocks !== Math.ceil(covered / blockBytes)) throw wrong(`${blocks} blocks for ${covered} bytes`);
    if (digests * DIGEST_BYTES !== answer.digests.length) {
      throw wrong(`${answer.digests.length} bytes of digests for ${digests} blocks`);
    }
  }

  /** The kind of a block; not below one that was asked for before. */
  kind(block: number): BlockKind {
    const runs = this.#runs;
    while (block >= this.#runStart + (runs[this.#run] ?? Infinity)) {
      const many = runs[this.#run] ?? 0;
      if (runs[this.#run + 1] === BlockKind.Data) this.#digestsBefore += many;
      this.#runStart += many;
      this.#run += 2;
    }
    return (runs[this.#run + 1] ?? BlockKind.Unreadable) as BlockKind;
  }

  /** The first block after this one that is of another kind, or beyond the end; not below one that was asked for before. */
  runEnd(block: number): number {
    this.kind(block);
    return this.#runStart + (this.#runs[this.#run] ?? 1);
  }

  /** True when the block, which must be of kind Data, has this digest. */
  hasDigest(block: number, digest: Buffer): boolean {
    if (this.kind(block) !== BlockKind.Data) return false;
    const at = (this.#digestsBefore + block - this.#runStart) * DIGEST_BYTES;
    return digest.compare(this.#digests, at, at + DIGEST_BYTES) === 0;
  }
}

function wrong(what: string): ProtocolFault {
  return new ProtocolFault('hash-answer', `an answer of hashes does not fit its request: ${what}`);
}
