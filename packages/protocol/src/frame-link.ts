/**
 * One framed conversation over a Connection, the same for agent and hub: frames out, checked frames in,
 * heartbeats, and one clear end.
 *
 * Always holds:
 *  - `closed` is called exactly once, in a turn of its own; after the link is over no other handler is called;
 *  - a peer that sends garbage, nothing, or half a frame costs bounded time (`firstFrameMs`, `timeoutMs`)
 *    and bounded memory (one frame, and of all links with one budget together no more than that); one that does not read costs at most `maxQueuedBytes`;
 *  - nothing the peer sends, and no handler that throws, gets further than the end of this link.
 *
 * Must not know: what the messages mean, who is agent and who is hub, how to reconnect.
 */
import {
  asError,
  type Claimant,
  type Clock,
  type Connection,
  Fault,
  LinkFault,
  type PayloadBudget,
  type PayloadClaim,
  ProtocolFault,
  type Timer,
} from '@rephub/platform';
import { bodyBytes, type ControlBodies, type ControlHandlers, type ControlType, dispatchControl } from './control.js';
import { type FrameHeader, FrameType, isRecordType } from './frame.js';
import { FrameReader } from './frame-reader.js';
import { Heartbeat } from './heartbeat.js';
import { type Beat, byeSchema, decodeBody, encodeControl, refuseSchema } from './messages.js';
import { OpeningBytes } from './opening-bytes.js';

export interface LinkHandlers extends ControlHandlers {
  /**
   * A whole, checked record; `raw` is the frame as it came, to be appended to a journal. `header` and the
   * array `raw` are used again, the slices may be kept (held, where records come in counted memory).
   */
  record?(header: FrameHeader, raw: readonly Buffer[]): void;
  /** There is room to send again after `congested` was true. */
  drained?(): void;
  /**
   * The end. Null: orderly, by either side's Bye. Else `fault.code` says why: that of a ProtocolFault (a bad frame,
   * `bad-body`, `unexpected-frame`), of a fault that a handler threw or `refuse` was called with, or of a LinkFault: `peer-silent`, `no-first-frame`,
   * `payload-stalled`, `peer-ended`, `connection-lost`, `peer-refused`, `send-queue-full`, `internal-error`.
   */
  closed(fault: Fault | null): void;
}

export interface FrameLinkOptions {
  readonly connection: Connection;
  readonly clock: Clock;
  readonly handlers: LinkHandlers;
  /** The next beat to send. Called every interval, from the first frame that this side sends. */
  readonly beat: () => Beat;
  readonly heartbeatMs?: number;
  readonly timeoutMs?: number;
  /** The peer's first frame must have come this long after the start. */
  readonly firstFrameMs?: number;
  /** More than this queued for sending ends the link. */
  readonly maxQueuedBytes?: number;
  /** Records come in counted memory: their handler holds or copies what it keeps, the rest is used again after it has returned. */
  readonly countedRecords?: boolean;
  /** For payloads that have not come whole, where many peers share one. */
  readonly payloads?: PayloadBudget;
}

/** How often each side says that it lives, and how long a silent one counts as alive. */
export const DEFAULT_HEARTBEAT_MS = 1_000;
export const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_FIRST_FRAME_MS = 10_000;
const DEFAULT_MAX_QUEUED_BYTES = 128 * 1024 * 1024;
/** How long a peer may take to read our last words. */
const LINGER_MS = 1_000;
/** A large frame on a slow link: this much of it counts as life, less does not. */
const LIFE_BYTES = 64 * 1024;
const PEER_RETRY_MS = 1_000;
const NO_RECORD = 'a record has no place here';

export class FrameLink implements Claimant {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #beat: () => Beat;
  readonly #maxQueuedBytes: number;
  readonly #heartbeat: Heartbeat;
  readonly #reader: FrameReader;
  #handlers: LinkHandlers;
  #state: 'open' | 'ending' | 'over' = 'open';
  #linger: Timer | null = null;
  #heardOnce = false;
  readonly #opening = new OpeningBytes();
  #bytesSinceLife = 0;
  readonly #claim: PayloadClaim | null;
  /** Nothing is read because our side says so; because there is no room for the payload that has begun. */
  #isPaused = false;
  #awaitsRoom = false;

  /** Starts at once: handlers may be called from the next turn on. */
  constructor(options: FrameLinkOptions) {
    this.#connection = options.connection;
    this.#clock = options.clock;
    this.#handlers = options.handlers;
    this.#beat = options.beat;
    this.#maxQueuedBytes = options.maxQueuedBytes ?? DEFAULT_MAX_QUEUED_BYTES;
    this.#claim = options.payloads?.claimFor(this) ?? null;
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const firstMs = options.firstFrameMs ?? DEFAULT_FIRST_FRAME_MS;
    this.#heartbeat = new Heartbeat({
      clock: options.clock,
      intervalMs: options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS,
      timeoutMs,
      firstMs,
      send: () => this.#sendBeat(),
      dead: (silentMs) => this.#dead(silentMs),
    });
    this.#reader = new FrameReader({ frame: (header, raw) => this.#frame(header, raw) });
    this.#connection.start(
      {
        received: (chunk) => this.#received(chunk),
        drained: () => {
          if (this.#state === 'open') this.#handlers.drained?.();
        },
        ended: () => this.#peerEnded(),
        closed: (error) => this.#connectionClosed(error),
      },
      { counted: options.countedRecords ?? false },
    );
  }

  /** Who is at the other end, for people. */
  get peer(): string {
    return this.#connection.peer;
  }

  /** False once the link is over or ending: what is sent then is dropped. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** Stop producing, wait for `drained`. */
  get congested(): boolean {
    return this.#connection.congested;
  }

  /** It does not read: beats wait in the socket. */
  get isDeaf(): boolean {
    return this.#isPaused || this.#awaitsRoom;
  }

  get queuedBytes(): number {
    return this.#connection.queuedBytes;
  }

  /** Other handlers from now on, for the next part of the conversation. `closed` is called on those that are set then. */
  use(handlers: LinkHandlers): void {
    this.#handlers = handlers;
  }

  /** The times that both sides have agreed upon (Welcome). */
  setHeartbeat(intervalMs: number, timeoutMs: number): void {
    this.#heartbeat.setTimes(intervalMs, timeoutMs);
  }

  sendControl<Type extends ControlType>(type: Type, body: ControlBodies[Type]): void {
    if (this.#state !== 'open') return;
    this.#connection.send(encodeControl(type, body));
    this.#sent();
  }

  /** Sends bytes of whole frames, in order. They must not be changed afterwards (see Connection.send). */
  send(buffers: readonly Uint8Array[]): void {
    if (this.#state !== 'open') return;
    for (const buffer of buffers) this.#connection.send(buffer);
    this.#sent();
  }

  /** Back-pressure on the peer. Frames of the chunk at hand still come; silence does not count meanwhile. */
  pause(): void {
    if (this.#state !== 'open') return;
    this.#isPaused = true;
    this.#deafen();
  }

  resume(): void {
    if (this.#state !== 'open') return;
    this.#isPaused = false;
    this.#hearAgain();
  }

  get arrivedBytes(): number {
    return this.#reader.payloadArrivedBytes;
  }

  get isHeldBack(): boolean {
    return this.#isPaused;
  }

  /** For the budget only. */
  admitted(): void {
    this.#awaitsRoom = false;
    if (this.#state === 'open') this.#hearAgain();
  }

  /** For the budget only. */
  overdue(reason: string): void {
    this.#refuseFor(new LinkFault('payload-stalled', `${this.peer}: ${reason}`));
  }

  #deafen(): void {
    this.#heartbeat.setDeaf(true);
    this.#connection.pause();
  }

  #hearAgain(): void {
    if (this.isDeaf) return;
    this.#heartbeat.setDeaf(false);
    this.#connection.resume();
  }

  /** An orderly end: Bye, and `closed(null)` when the peer has it or has had the time. */
  end(reason: string): void {
    if (this.#state !== 'open') return;
    this.#connection.send(encodeControl(FrameType.Bye, { reason }));
    this.#state = 'ending';
    this.#lastWords();
  }

  /** Ends the session because of `fault`, tells the peer, and calls `closed(fault)`. `retryAfterMs` null: pointless until somebody acts. */
  refuse(fault: Fault, retryAfterMs: number | null): void {
    if (this.#state !== 'open') return;
    const { code, message } = fault;
    this.#connection.send(encodeControl(FrameType.Refuse, { code, message: message.slice(0, 4_000), retryAfterMs }));
    this.#over(fault);
    this.#lastWords();
  }

  /** Gone now, without a word: for a process that must stop, or a session that was replaced. */
  destroy(fault: Fault | null): void {
    this.#over(fault);
    this.#linger?.cancel();
    this.#connection.destroy();
  }

  #received(chunk: Buffer): void {
    if (this.#state !== 'open') return;
    this.#bytesSinceLife += chunk.length;
    const foreign = this.#opening.take(chunk);
    if (foreign !== null) {
      // Most others say less than a frame's header has, and then wait or leave.
      this.#refuseFor(new ProtocolFault('frame-magic', `${this.peer} speaks ${foreign}, not as agent and hub do`));
      return;
    }
    try {
      this.#reader.push(chunk);
    } catch (thrown) {
      this.#refuseFor(thrown);
      return;
    }
    if (this.#reader.insidePayload) this.#partCame();
  }

  /** The header of what is in the making has been checked, so this is part of a frame, if a slow one. */
  #partCame(): void {
    const { type, storedLength } = this.#reader.awaited;
    if (isRecordType(type) && this.#handlers.record === undefined) {
      this.#refuseFor(new ProtocolFault('unexpected-frame', NO_RECORD));
      return;
    }
    if (this.#bytesSinceLife >= LIFE_BYTES) this.#heard();
    if (this.#claim === null || this.#claim.take(storedLength) || this.#awaitsRoom) return;
    this.#awaitsRoom = true;
    this.#deafen();
  }

  #frame(header: FrameHeader, raw: readonly Buffer[]): void {
    if (this.#state !== 'open') return;
    this.#claim?.giveBack();
    // A chunk that was under way has brought the rest before there was room.
    if (this.#awaitsRoom) this.admitted();
    this.#heard();
    if (isRecordType(header.type)) {
      const handlers = this.#handlers;
      if (handlers.record === undefined) throw new ProtocolFault('unexpected-frame', NO_RECORD);
      handlers.record(header, raw);
      return;
    }
    switch (header.type) {
      case FrameType.Bye:
        this.#handlers.bye?.(decodeBody(byeSchema, bodyBytes(header, raw), 'Bye'));
        this.#over(null);
        this.#lastWords();
        return;
      case FrameType.Refuse: {
        const refuse = decodeBody(refuseSchema, bodyBytes(header, raw), 'Refuse');
        this.#handlers.refuse?.(refuse);
        const message = `${this.peer} ended the session: ${refuse.message} (${refuse.code})`;
        this.#over(new LinkFault('peer-refused', message, { retryable: refuse.retryAfterMs !== null }));
        this.#lastWords();
        return;
      }
      default:
        dispatchControl(header, raw, this.#handlers);
    }
  }

  #heard(): void {
    this.#heardOnce = true;
    this.#bytesSinceLife = 0;
    this.#heartbeat.heard();
  }

  #sent(): void {
    this.#heartbeat.startSending();
    const queuedBytes = this.#connection.queuedBytes;
    if (queuedBytes <= this.#maxQueuedBytes) return;
    const what = `${queuedBytes} bytes wait to be sent to ${this.peer}, at most ${this.#maxQueuedBytes} may`;
    this.destroy(new LinkFault('send-queue-full', what));
  }

  #sendBeat(): void {
    try {
      this.sendControl(FrameType.Beat, this.#beat());
    } catch (thrown) {
      this.#refuseFor(thrown);
    }
  }

  #dead(silentMs: number): void {
    const seconds = (silentMs / 1000).toFixed(1);
    this.destroy(
      this.#heardOnce
        ? new LinkFault('peer-silent', `nothing was heard from ${this.peer} for ${seconds} s`)
        : new LinkFault('no-first-frame', `${this.peer} sent no frame within ${seconds} s`),
    );
  }

  #peerEnded(): void {
    // It may still be reading our last words; the connection closes when they have left, or the linger time is over.
    if (this.#state !== 'open') return;
    const where = this.#reader.atBoundary ? 'without a word' : 'in the middle of a frame';
    this.destroy(new LinkFault('peer-ended', `${this.peer} closed the link ${where}`));
  }

  #connectionClosed(error: Error | null): void {
    this.#linger?.cancel();
    if (this.#state !== 'open') {
      this.#over(null);
      return;
    }
    const why = error === null ? '' : `: ${error.message}`;
    this.#over(new LinkFault('connection-lost', `connection to ${this.peer} was lost${why}`, { cause: error }));
  }

  #refuseFor(thrown: unknown): void {
    const fault =
      thrown instanceof Fault
        ? thrown
        : new LinkFault('internal-error', `session with ${this.peer}: ${asError(thrown).message}`, { cause: thrown });
    this.refuse(fault, PEER_RETRY_MS);
  }

  #over(fault: Fault | null): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#heartbeat.stop();
    this.#reader.stop();
    this.#claim?.giveBack();
    queueMicrotask(() => this.#handlers.closed(fault));
  }

  /** Lets what is queued leave and the peer read it; what still comes is read and thrown away, or a reset would overtake our words. */
  #lastWords(): void {
    this.#heartbeat.stop();
    this.#connection.resume();
    this.#connection.end();
    this.#linger?.cancel();
    this.#linger = this.#clock.after(LINGER_MS, () => this.destroy(null));
  }
}
