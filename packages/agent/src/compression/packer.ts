/**
 * Compresses the payload of records for the mirror, with the codec that both sides have, when the policy says so.
 *
 * Always holds: while `on` is false nobody calls anything here for a record, and nothing is allocated; a payload is carried
 * compressed only where that saves a tenth of it. A record is compressed when it is made or never (docs/design.md,
 * "Compression"), so what cannot be taken back is which codecs the window needs: `lacks` tells.
 * Must not know: the window, frames, sockets.
 */
import { type BlockCodec, type Clock, type CodecName, type Timer } from '@rephub/platform';
import { codecFeature, Compression, type PackedPayload } from '@rephub/protocol';
import { CompressionPolicy } from './policy.js';

/** Smaller payloads go as they are: a frame of them costs as much as the bytes. */
const LEAST_BYTES = 1024;
/** So are larger ones: the event loop, and with it the guest, waits for as long as compressing takes. */
const MOST_BYTES = 4 * 1024 * 1024;
const MOST_LEFT = 0.9;
/** How often the link is looked at while records wait for it. */
const LOOK_MS = 50;
export type CompressOption = 'auto' | 'off' | CodecName;

/** The link and the mirror, as far as they tell how fast records leave. */
export interface Pressure {
  /** Records wait for the link. */
  readonly waits: boolean;
  /** Bytes of frames that have left. */
  readonly leftBytes: number;
  /** Bytes that all frames made so far would have uncompressed. */
  readonly madeBytes: number;
}

export interface PackerCounters {
  /** Payload that was carried compressed: before and after. */
  compressedRawBytes: number;
  compressedBytes: number;
}

/** What status shows. */
export interface CompressionStatus {
  readonly wish: CompressOption;
  /** The codec agreed upon with the hub; null: none. */
  readonly codec: CodecName | null;
  /** Records are compressed now. */
  readonly active: boolean;
}

export class Packer {
  /** Payload is to be offered to `pack`. */
  on = false;
  readonly counters: PackerCounters = { compressedRawBytes: 0, compressedBytes: 0 };
  readonly #wish: CompressOption;
  readonly #clock: Clock;
  /** Those that are wished for, the best first. */
  readonly #codecs: readonly BlockCodec[];
  /** The number of the last record that was compressed with each. */
  readonly #lastNumbers = new Map<CodecName, number>();
  #codec: BlockCodec | null = null;
  #policy: CompressionPolicy | null = null;
  #pressure: Pressure | null = null;
  #looking: Timer | null = null;
  #resting: Timer | null = null;

  constructor(wish: CompressOption, clock: Clock, codecs: readonly BlockCodec[]) {
    this.#wish = wish;
    this.#clock = clock;
    this.#codecs = wish === 'off' ? [] : codecs.filter(({ name }) => wish === 'auto' || name === wish);
  }

  /** What Hello says. */
  get features(): string[] {
    return this.#codecs.map(({ name }) => codecFeature(name));
  }

  get status(): CompressionStatus {
    return { wish: this.#wish, codec: this.#codec?.name ?? null, active: this.on };
  }

  /** A record above `number` is compressed in a way that a hub with these features does not take: the codec's name. */
  lacks(features: readonly string[], number: number): CodecName | null {
    for (const [name, last] of this.#lastNumbers) {
      if (last > number && !features.includes(codecFeature(name))) return name;
    }
    return null;
  }

  /** Records flow to a hub with these features. */
  linkUp(features: readonly string[], isLocal: boolean, pressure: Pressure): void {
    this.linkDown();
    this.#codec = this.#codecs.find(({ name }) => features.includes(codecFeature(name))) ?? null;
    if (this.#codec === null) return;
    this.#pressure = pressure;
    this.#policy = new CompressionPolicy(this.#wish === 'auto' ? 'auto' : 'always', isLocal);
    this.#decide();
    if (pressure.waits) this.waits();
  }

  linkDown(): void {
    this.on = false;
    this.#codec = null;
    this.#policy = null;
    this.#pressure = null;
    this.#looking?.cancel();
    this.#looking = null;
    this.#resting?.cancel();
    this.#resting = null;
  }

  /** Records wait for the link: it is looked at until they do not any more. */
  waits(): void {
    if (this.#looking !== null || this.#policy === null || this.#wish !== 'auto') return;
    this.#look();
  }

  /** The payload compressed; null where it is to be carried as it is. Call only while `on`. */
  pack(payload: readonly Buffer[], payloadBytes: number, number: number): PackedPayload | null {
    const codec = this.#codec;
    const policy = this.#policy;
    if (codec === null || policy === null || payloadBytes < LEAST_BYTES || payloadBytes > MOST_BYTES) return null;
    const [first] = payload;
    const raw = payload.length === 1 && first !== undefined ? first : Buffer.concat(payload, payloadBytes);
    const begunMs = this.#clock.monotonicMs();
    const made = codec.compress(raw);
    const nowMs = this.#clock.monotonicMs();
    policy.tried(nowMs, payloadBytes, made.length, nowMs - begunMs);
    this.#decide();
    if (made.length > payloadBytes * MOST_LEFT) return null;
    // The window holds it for long: no more than what is used of it.
    const kept = Buffer.allocUnsafeSlow(made.length);
    made.copy(kept);
    this.counters.compressedRawBytes += payloadBytes;
    this.counters.compressedBytes += kept.length;
    this.#lastNumbers.set(codec.name, number);
    return { compression: Compression[codec.name], slices: [kept], bytes: kept.length };
  }

  readonly #look = (): void => {
    const pressure = this.#pressure;
    const policy = this.#policy;
    this.#looking = null;
    if (pressure === null || policy === null) return;
    policy.look({
      nowMs: this.#clock.monotonicMs(),
      leftBytes: pressure.leftBytes,
      rawBytes: pressure.madeBytes,
      waits: pressure.waits,
    });
    this.#decide();
    if (!policy.isIdle) this.#looking = this.#clock.after(LOOK_MS, this.#look);
  };

  #decide(): void {
    const policy = this.#policy;
    if (policy === null) return;
    const nowMs = this.#clock.monotonicMs();
    this.on = policy.isOn(nowMs);
    const untilMs = policy.restsUntilMs;
    if (this.on || untilMs === null || untilMs <= nowMs || this.#resting !== null) return;
    this.#resting = this.#clock.after(untilMs - nowMs, () => {
      this.#resting = null;
      this.#decide();
    });
  }
}
