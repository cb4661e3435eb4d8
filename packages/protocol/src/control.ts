/**
 * Control frames as typed messages: which type carries which body, and the handing over of one that came
 * to its handler. What is not listed here is a record.
 */
import { ProtocolFault } from '@rephub/platform';
import { type FrameHeader, FrameType } from './frame.js';
import { payloadOf } from './frame-reader.js';
import { type Hashes, type HashRegion, hashesSchema, hashRegionSchema } from './hashes.js';
import {
  type Ack,
  ackSchema,
  type Beat,
  beatSchema,
  type Bye,
  decodeBody,
  type Hello,
  helloSchema,
  type ReadRegion,
  readRegionSchema,
  type Refuse,
  type RegionRefused,
  regionRefusedSchema,
  type Request,
  requestSchema,
  type Start,
  startSchema,
  type Welcome,
  welcomeSchema,
} from './messages.js';

/** What a side does with each control frame; one that it does not list is a protocol fault of the peer. */
export interface ControlHandlers {
  hello?(body: Hello): void;
  welcome?(body: Welcome): void;
  start?(body: Start): void;
  ack?(body: Ack): void;
  readRegion?(body: ReadRegion): void;
  regionRefused?(body: RegionRefused): void;
  request?(body: Request): void;
  hashRegion?(body: HashRegion): void;
  hashes?(body: Hashes): void;
  /** Beats keep the link alive whether or not they are listened to. */
  beat?(body: Beat): void;
  /** The peer ends the session and says why; `closed` follows. */
  refuse?(body: Refuse): void;
  /** The peer ends the session in an orderly way; `closed(null)` follows. */
  bye?(body: Bye): void;
}

/** The body of each control frame. */
export interface ControlBodies {
  [FrameType.Hello]: Hello;
  [FrameType.Welcome]: Welcome;
  [FrameType.Start]: Start;
  [FrameType.Refuse]: Refuse;
  [FrameType.Beat]: Beat;
  [FrameType.Ack]: Ack;
  [FrameType.ReadRegion]: ReadRegion;
  [FrameType.RegionRefused]: RegionRefused;
  [FrameType.Request]: Request;
  [FrameType.HashRegion]: HashRegion;
  [FrameType.Hashes]: Hashes;
  [FrameType.Bye]: Bye;
}
export type ControlType = keyof ControlBodies;

/**
 * Decodes the body by the schema of its type and calls the handler. Throws a ProtocolFault: `bad-body`, or
 * `unexpected-frame` when there is no handler. Bye and Refuse end the link and are the link's own affair.
 */
export function dispatchControl(header: FrameHeader, raw: readonly Buffer[], handlers: ControlHandlers): void {
  const bytes = bodyBytes(header, raw);
  switch (header.type) {
    case FrameType.Hello:
      if (handlers.hello === undefined) throw unexpected('Hello');
      handlers.hello(decodeBody(helloSchema, bytes, 'Hello'));
      return;
    case FrameType.Welcome:
      if (handlers.welcome === undefined) throw unexpected('Welcome');
      handlers.welcome(decodeBody(welcomeSchema, bytes, 'Welcome'));
      return;
    case FrameType.Start:
      if (handlers.start === undefined) throw unexpected('Start');
      handlers.start(decodeBody(startSchema, bytes, 'Start'));
      return;
    case FrameType.Ack:
      if (handlers.ack === undefined) throw unexpected('Ack');
      handlers.ack(decodeBody(ackSchema, bytes, 'Ack'));
      return;
    case FrameType.ReadRegion:
      if (handlers.readRegion === undefined) throw unexpected('ReadRegion');
      handlers.readRegion(decodeBody(readRegionSchema, bytes, 'ReadRegion'));
      return;
    case FrameType.RegionRefused:
      if (handlers.regionRefused === undefined) throw unexpected('RegionRefused');
      handlers.regionRefused(decodeBody(regionRefusedSchema, bytes, 'RegionRefused'));
      return;
    case FrameType.Request:
      if (handlers.request === undefined) throw unexpected('Request');
      handlers.request(decodeBody(requestSchema, bytes, 'Request'));
      return;
    case FrameType.HashRegion:
      if (handlers.hashRegion === undefined) throw unexpected('HashRegion');
      handlers.hashRegion(decodeBody(hashRegionSchema, bytes, 'HashRegion'));
      return;
    case FrameType.Hashes:
      if (handlers.hashes === undefined) throw unexpected('Hashes');
      handlers.hashes(decodeBody(hashesSchema, bytes, 'Hashes'));
      return;
    case FrameType.Beat:
      handlers.beat?.(decodeBody(beatSchema, bytes, 'Beat'));
      return;
    default:
      throw unexpected(`a frame of type ${header.type}`);
  }
}

/** The payload of a frame as one buffer; copied only when it came in more than one piece. */
export function bodyBytes(header: FrameHeader, raw: readonly Buffer[]): Buffer {
  const slices = payloadOf(header, raw);
  const [first] = slices;
  return slices.length === 1 && first !== undefined ? first : Buffer.concat(slices);
}

function unexpected(what: string): ProtocolFault {
  return new ProtocolFault('unexpected-frame', `${what} has no place here`);
}
