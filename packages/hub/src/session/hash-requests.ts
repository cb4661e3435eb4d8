/**
 * What an agent has asked digests of, and the answers on their way back.
 *
 * Always holds: each request is answered once, with digests or with why not, or the session is over; no more are under
 * way at a time than MAX_ASKED, so an agent cannot fill this hub's memory with them.
 */
import { asError, Fault, ProtocolFault } from '@rephub/platform';
import type { Hashes, HashRegion, RegionHashes } from '@rephub/protocol';

/** More requests at once end the session: the agent knows the limit. */
export const MAX_ASKED = 32;

export class HashRequests {
  readonly #hash: (request: HashRegion, signal: AbortSignal) => Promise<RegionHashes>;
  readonly #send: (answer: Hashes) => void;
  readonly #asked = new Set<AbortController>();
  #isOver = false;

  constructor(
    hash: (request: HashRegion, signal: AbortSignal) => Promise<RegionHashes>,
    send: (answer: Hashes) => void,
  ) {
    this.#hash = hash;
    this.#send = send;
  }

  /** Throws a ProtocolFault `hash-too-many`. */
  asked(request: HashRegion): void {
    if (this.#asked.size >= MAX_ASKED) {
      throw new ProtocolFault('hash-too-many', `more than ${MAX_ASKED} regions are to be hashed at once`);
    }
    const asked = new AbortController();
    this.#asked.add(asked);
    void this.#answer(request, asked);
  }

  /** The session is over: nothing is answered any more. */
  end(): void {
    this.#isOver = true;
    for (const asked of this.#asked) asked.abort();
  }

  async #answer(request: HashRegion, asked: AbortController): Promise<void> {
    const { tag } = request;
    let answer: Hashes;
    try {
      answer = { tag, hashes: await this.#hash(request, asked.signal), refused: null };
    } catch (thrown) {
      const code = thrown instanceof Fault ? thrown.code : 'internal-error';
      answer = { tag, hashes: null, refused: { code, message: asError(thrown).message.slice(0, 4000) } };
    }
    this.#asked.delete(asked);
    if (!this.#isOver) this.#send(answer);
  }
}
