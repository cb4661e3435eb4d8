/**
 * The link between agent and hub, listened to at both ends, frame by frame, and spoiled on demand.
 *
 * Always holds: what is carried is not changed, but for the bit that a test asked to be flipped.
 */
import { type Address, asError, ProtocolFault } from '@rephub/platform';
import { ForwardingConnection, type HostNetwork, type SimConnection, tappedNetwork } from '@rephub/platform/sim';
import {
  type Ack,
  ackSchema,
  decodeBody,
  FrameReader,
  type FrameHeader,
  FrameType,
  type Hello,
  helloSchema,
  isRecordType,
  payloadOf,
  type Refuse,
  refuseSchema,
  type Start,
  startSchema,
  type Welcome,
  welcomeSchema,
} from '@rephub/protocol';
import { type z } from 'zod';

/** What is heard; `link` numbers the connection at that end. */
export interface WireListener {
  agentSentRecord(header: FrameHeader, raw: readonly Buffer[], link: number): void;
  hello(hello: Hello, link: number): void;
  start(start: Start, link: number): void;
  welcome(welcome: Welcome, link: number): void;
  refuse(refuse: Refuse, from: 'agent' | 'hub'): void;
  /** The agent tries to reach the hub. */
  dialled(): void;
  /** As the hub sent it, whether or not it arrives. */
  hubSentAck(ack: Ack): void;
  /** The agent has got bytes from the hub. */
  agentHeard(): void;
  spoiled(link: number): void;
  /** The listener itself has failed. */
  broken(error: Error): void;
  /** The end at which this link was spoiled has let it go. */
  closed(link: number): void;
}

export class WireTap {
  readonly #listener: WireListener;
  readonly #link: string;
  #links = 0;
  #spoilNext: 'agent' | 'hub' | null = null;
  #spoilAt = 0.5;
  #onSpoiled: () => void = () => undefined;

  constructor(listener: WireListener, link: Address) {
    this.#listener = listener;
    this.#link = JSON.stringify(link);
  }

  /** The next bytes that arrive there have a bit flipped, after such a part of them (0 to below 1). */
  spoil(at: 'agent' | 'hub' | null, part = 0.5, spoiled: () => void = () => undefined): void {
    this.#spoilNext = at;
    this.#spoilAt = part;
    this.#onSpoiled = spoiled;
  }

  /** For the agent's process. */
  agent(network: HostNetwork): HostNetwork {
    const tapped = tappedNetwork(network, (connection, address, side) =>
      side === 'client' && this.#isLink(address) ? this.#tapAgent(connection) : connection,
    );
    return {
      ...tapped,
      connect: (address, options) => {
        if (this.#isLink(address)) this.#listener.dialled();
        return tapped.connect(address, options);
      },
    };
  }

  /** For the hub's process. */
  hub(network: HostNetwork): HostNetwork {
    return tappedNetwork(network, (connection, address, side) =>
      side === 'server' && this.#isLink(address) ? this.#tapHub(connection) : connection,
    );
  }

  #isLink(address: Address): boolean {
    return JSON.stringify(address) === this.#link;
  }

  #tapAgent(connection: SimConnection): SimConnection {
    const link = ++this.#links;
    const listener = this.#listener;
    const broken = (error: Error): void => this.#listener.broken(error);
    const sent = new FrameEar((header, raw) => {
      if (isRecordType(header.type)) listener.agentSentRecord(header, raw, link);
      else if (header.type === FrameType.Hello) listener.hello(bodyOf(header, raw, helloSchema), link);
      else if (header.type === FrameType.Start) listener.start(bodyOf(header, raw, startSchema), link);
      else if (header.type === FrameType.Refuse) listener.refuse(bodyOf(header, raw, refuseSchema), 'agent');
    }, broken);
    const heard = new FrameEar((header, raw) => {
      if (header.type === FrameType.Welcome) listener.welcome(bodyOf(header, raw, welcomeSchema), link);
      else if (header.type === FrameType.Refuse) listener.refuse(bodyOf(header, raw, refuseSchema), 'hub');
    }, broken);
    return new TappedConnection(connection, {
      sent: (chunk) => sent.push(chunk),
      received: (chunk) => {
        const bytes = this.#spoiled('agent', chunk, link);
        listener.agentHeard();
        heard.push(bytes);
        return bytes;
      },
      closed: () => listener.closed(link),
    });
  }

  #tapHub(connection: SimConnection): SimConnection {
    const link = ++this.#links;
    const broken = (error: Error): void => this.#listener.broken(error);
    const sent = new FrameEar((header, raw) => {
      if (header.type === FrameType.Ack) this.#listener.hubSentAck(bodyOf(header, raw, ackSchema));
    }, broken);
    return new TappedConnection(connection, {
      sent: (chunk) => sent.push(chunk),
      received: (chunk) => this.#spoiled('hub', chunk, link),
      closed: () => this.#listener.closed(link),
    });
  }

  #spoiled(at: 'agent' | 'hub', chunk: Buffer, link: number): Buffer {
    if (this.#spoilNext !== at || chunk.length < 90) return chunk;
    this.#spoilNext = null;
    const copy = Buffer.from(chunk);
    const place = Math.floor(this.#spoilAt * copy.length);
    copy.writeUInt8(copy.readUInt8(place) ^ 4, place);
    this.#onSpoiled();
    this.#listener.spoiled(link);
    return copy;
  }
}

function bodyOf<T>(header: FrameHeader, raw: readonly Buffer[], schema: z.ZodType<T>): T {
  return decodeBody(schema, Buffer.concat(payloadOf(header, raw)), 'frame');
}

/** Understands frames as long as they are good. */
class FrameEar {
  readonly #reader: FrameReader;
  readonly #broken: (error: Error) => void;
  #deaf = false;

  constructor(frame: (header: FrameHeader, raw: readonly Buffer[]) => void, broken: (error: Error) => void) {
    this.#reader = new FrameReader({ frame });
    this.#broken = broken;
  }

  push(chunk: Uint8Array): void {
    if (this.#deaf) return;
    try {
      this.#reader.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
    } catch (thrown) {
      this.#deaf = true;
      // A bad frame is what was asked for; anything else is the listener's own.
      if (!(thrown instanceof ProtocolFault)) this.#broken(asError(thrown));
    }
  }
}

interface Listening {
  sent(chunk: Uint8Array): void;
  received(chunk: Buffer): Buffer;
  closed(): void;
}

class TappedConnection extends ForwardingConnection {
  readonly #listening: Listening;

  constructor(inner: SimConnection, listening: Listening) {
    super(inner);
    this.#listening = listening;
  }

  override received(chunk: Buffer): void {
    super.received(this.#listening.received(chunk));
  }
  override closed(error: Error | null): void {
    this.#listening.closed();
    super.closed(error);
  }
  override send(chunk: Uint8Array): void {
    this.#listening.sent(chunk);
    super.send(chunk);
  }
  override destroy(): void {
    this.#listening.closed();
    super.destroy();
  }
}
