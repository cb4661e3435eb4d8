/**
 * Regions that the hub has asked its agent for, by tag. The answer is one record, or several that follow one
 * another, with flag Answer and the tag; they go through the journal like any other and are copied here for
 * whoever asked.
 *
 * Always holds: each request settles exactly once: with all its bytes, refused by the agent, out of time, or
 * with the session's end. What the agent answers wrongly spoils that request only.
 */
import { type BlockCodec, type Clock, type Fault, LinkFault, StorageFault, type Timer } from '@rephub/platform';
import { FrameFlag, type FrameHeader, FrameType, rawPayload, type ReadRegion } from '@rephub/protocol';

export interface RegionRequest {
  readonly volume: number;
  readonly offset: number;
  readonly length: number;
  readonly timeoutMs: number;
}

export interface RegionAnswer {
  readonly bytes: Buffer;
  /** The number of the last record of the answer. */
  readonly seq: number;
}

interface Pending {
  readonly request: RegionRequest;
  readonly bytes: Buffer;
  readonly timer: Timer;
  gotBytes: number;
  readonly resolve: (answer: RegionAnswer) => void;
  readonly reject: (fault: Fault) => void;
}

/** Requests under way at a time; more are refused, so that a script cannot fill the agent's window. */
const MAX_PENDING = 16;

export class RemoteReads {
  readonly #clock: Clock;
  readonly #codecs: readonly BlockCodec[];
  readonly #send: (region: ReadRegion) => void;
  readonly #pending = new Map<number, Pending>();
  #lastTag = 0;

  constructor(clock: Clock, codecs: readonly BlockCodec[], send: (region: ReadRegion) => void) {
    this.#clock = clock;
    this.#codecs = codecs;
    this.#send = send;
  }

  /** Rejects with a Fault: `read-busy`, `read-timeout`, `read-unreadable`, `read-answer`, what the agent said, or the session's end. */
  read(request: RegionRequest): Promise<RegionAnswer> {
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new LinkFault('read-busy', `${MAX_PENDING} remote reads are under way already`));
    }
    this.#lastTag = this.#lastTag === 0xffff_ffff ? 1 : this.#lastTag + 1;
    const tag = this.#lastTag;
    const { volume, offset, length, timeoutMs } = request;
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(timeoutMs, () => {
        this.#fail(tag, new LinkFault('read-timeout', `the agent has not sent the region within ${timeoutMs} ms`));
      });
      this.#pending.set(tag, { request, bytes: Buffer.alloc(length), timer, gotBytes: 0, resolve, reject });
      this.#send({ tag, volume, offset, length });
    });
  }

  /** A record that the journal has taken; those that answer nothing are left alone. */
  record(header: FrameHeader, raw: readonly Buffer[]): void {
    if ((header.flags & FrameFlag.Answer) === 0) return;
    const pending = this.#pending.get(header.tag);
    // Out of time already, or of an earlier session: still good content for the journal.
    if (pending === undefined) return;
    const { request } = pending;
    const at = header.offset - request.offset;
    if (header.volume !== request.volume || at !== pending.gotBytes || at + header.length > request.length) {
      this.#fail(
        header.tag,
        new LinkFault('read-answer', 'the agent answered with another region than it was asked for'),
      );
      return;
    }
    if (header.type === FrameType.Unreadable) {
      this.#fail(
        header.tag,
        new StorageFault('read-unreadable', `upstream cannot read ${header.length} bytes at ${header.offset}`),
      );
      return;
    }
    if (header.type === FrameType.Write) {
      rawPayload(header, raw, this.#codecs).copy(pending.bytes, at);
    } else if (header.type !== FrameType.Zero && header.type !== FrameType.Discard) {
      this.#fail(header.tag, new LinkFault('read-answer', 'the agent answered with a record that is no content'));
      return;
    }
    pending.gotBytes += header.length;
    if (pending.gotBytes < request.length) return;
    this.#pending.delete(header.tag);
    pending.timer.cancel();
    pending.resolve({ bytes: pending.bytes, seq: header.number });
  }

  /** The agent will not answer this one. */
  refused(tag: number, code: string, message: string): void {
    this.#fail(tag, new LinkFault(code, `the agent refused: ${message}`));
  }

  /** The session is over. */
  end(why: string): void {
    this.giveUp(new LinkFault('agent-gone', why));
  }

  /** No answer can come. */
  giveUp(fault: Fault): void {
    for (const tag of [...this.#pending.keys()]) this.#fail(tag, fault);
  }

  #fail(tag: number, fault: Fault): void {
    const pending = this.#pending.get(tag);
    if (pending === undefined) return;
    this.#pending.delete(tag);
    pending.timer.cancel();
    pending.reject(fault);
  }
}
