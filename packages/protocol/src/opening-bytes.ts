/**
 * The first bytes that a peer says: a frame's, or those of another service that has the port. Told apart by four bytes, because
 * what a web or disk server answers to a Hello is shorter than a frame's header, which would be waited for in vain.
 */
import { FRAME_MAGIC } from './frame.js';

const OPENING_BYTES = 4;
const FRAME_OPENING = Buffer.alloc(OPENING_BYTES);
FRAME_OPENING.writeUInt32LE(FRAME_MAGIC);

/** How other protocols begin, from either side. */
const OTHERS: readonly (readonly [opening: RegExp, name: string])[] = [
  [/^(?:HTTP|GET |HEAD|POST|PUT |DELE|OPTI|PATC|CONN|PRI )/, 'HTTP'],
  [/^NBDM/, 'NBD'],
  [/^SSH-/, 'SSH'],
  [/^[\x14-\x17]\x03[\0-\x04]/, 'TLS'],
];

export class OpeningBytes {
  readonly #bytes = Buffer.alloc(OPENING_BYTES);
  #got = 0;

  /** What the peer speaks, where these bytes show that it is no frame; null while it may be one. Past the first bytes: always null. */
  take(chunk: Buffer): string | null {
    if (this.#got === OPENING_BYTES) return null;
    this.#got += chunk.copy(this.#bytes, this.#got, 0, OPENING_BYTES - this.#got);
    if (this.#got < OPENING_BYTES || this.#bytes.equals(FRAME_OPENING)) return null;
    const text = this.#bytes.toString('latin1');
    return OTHERS.find(([opening]) => opening.test(text))?.[1] ?? 'something else';
  }
}
