/** A hub for tests of comparing: holds what the records say, acknowledges them late, and answers for exactly a number. */
import { type Clock } from '@rephub/platform';
import { type SeededRandomness } from '@rephub/platform/sim';
import { allZero, BlockKind, digestOf, FrameType, HashesBuilder, type HashRegion } from '@rephub/protocol';
import { type HashClient } from '../resync/hash-client.js';
import { type Mirror } from '../mirror/mirror.js';
import { type SeenRecord } from './volume-kit.js';

export interface ModelHubParts {
  readonly clock: Clock;
  readonly random: SeededRandomness;
  readonly mirror: Mirror;
  readonly hashes: HashClient;
  readonly records: SeenRecord[];
  /** What it holds before the first record. */
  readonly content: Buffer;
}

export class ModelHub {
  readonly asked: HashRegion[] = [];
  /** Answers and acknowledgements wait for `letGo`. */
  holding = false;
  #acksFlow = true;
  #held: (() => void)[] = [];
  readonly #parts: ModelHubParts;
  #acknowledging = true;

  constructor(parts: ModelHubParts) {
    this.#parts = parts;
    this.#connect();
    this.#acknowledge();
  }

  /** The content of a range after all records up to this number. */
  at(number: number, offset = 0, length = this.#parts.content.length - offset): Buffer {
    const part = Buffer.from(this.#parts.content.subarray(offset, offset + length));
    for (const record of this.#parts.records) {
      if (record.number > number) break;
      const from = Math.max(record.offset, offset);
      const to = Math.min(record.offset + record.length, offset + length);
      if (from >= to) continue;
      if (record.type === FrameType.Write)
        record.data.copy(part, from - offset, from - record.offset, to - record.offset);
      else if (record.type === FrameType.Zero || record.type === FrameType.Discard)
        part.fill(0, from - offset, to - offset);
    }
    return part;
  }

  hold(): void {
    this.holding = true;
    this.#acksFlow = false;
  }

  /** Acknowledgements flow again; then, when the mirror has done with them what it will, the answers. */
  letGo(): void {
    const { clock, mirror } = this.#parts;
    this.#acksFlow = true;
    mirror.acknowledged(this.#received, this.#received);
    clock.after(2000, () => {
      this.holding = false;
      const held = this.#held;
      this.#held = [];
      for (const answer of held) answer();
    });
  }

  /** It has lost all that it held: from here on it holds zeroes and what comes. */
  forget(): void {
    this.#parts.content.fill(0);
    this.#parts.records.length = 0;
  }

  stop(): void {
    this.#acknowledging = false;
    this.#parts.hashes.linkDown();
  }

  get #received(): number {
    this.#parts.mirror.hurry();
    return this.#parts.mirror.lastNumber;
  }

  #connect(): void {
    const { clock, hashes, mirror, random } = this.#parts;
    hashes.linkUp((request) => {
      this.asked.push(request);
      // As the link does: what the question rests on goes ahead of it.
      mirror.hurry();
      const answer = (): void => {
        if (request.number > mirror.durableNumber) mirror.acknowledged(this.#received, request.number);
        hashes.answered({ tag: request.tag, hashes: this.#answer(request), refused: null }, mirror.durableNumber);
      };
      clock.after(random.fraction() ** 3 * 40, () => {
        if (this.holding) this.#held.push(answer);
        else answer();
      });
    });
  }

  #answer({ number, offset, length, blockBytes, key }: HashRegion): ReturnType<HashesBuilder['build']> {
    const content = this.at(number, offset, length);
    const builder = new HashesBuilder(blockBytes);
    for (let from = 0; from < length; from += blockBytes) {
      const block = [content.subarray(from, Math.min(from + blockBytes, length))];
      const bytes = block[0]?.length ?? 0;
      if (allZero(block)) builder.add(BlockKind.Zero, bytes);
      else builder.add(BlockKind.Data, bytes, digestOf(key, block));
    }
    return builder.build();
  }

  #acknowledge(): void {
    const { clock, mirror, random } = this.#parts;
    clock.after(1 + random.fraction() * 10, () => {
      if (!this.#acknowledging) return;
      if (!this.holding || this.#acksFlow) mirror.acknowledged(this.#received, this.#received);
      this.#acknowledge();
    });
  }
}
