/**
 * The pieces of one read's answer that did not come in order, put in order at its end. In-order answers,
 * which is what servers send, never get here.
 */
import { ProtocolFault } from '@rephub/platform';

interface Part {
  readonly offset: number;
  readonly length: number;
  readonly slices: Buffer[];
}

export class ReadParts {
  readonly #parts: Part[] = [];

  /** A piece begins; the slices that make it up are to be pushed into what is returned. */
  begin(offset: number, length: number): Buffer[] {
    const slices: Buffer[] = [];
    this.#parts.push({ offset, length, slices });
    return slices;
  }

  /** Appends all to `data`, which ends at `from`; returns where it ends then. Throws when pieces overlap. */
  appendTo(data: Buffer[], from: number): number {
    let at = from;
    for (const part of this.#parts.sort((one, other) => one.offset - other.offset)) {
      if (part.offset < at) throw new ProtocolFault('reply-overlap', `byte ${part.offset} was sent twice`);
      if (part.offset > at) return at;
      for (const slice of part.slices) data.push(slice);
      at += part.length;
    }
    return at;
  }
}
