/** The other end of a connection as plain bytes: for clients and servers that lie, stall and cut. */
import type { Connection, Receiver } from '@rephub/platform';

export class RawPeer implements Receiver {
  readonly connection: Connection;
  isEnded = false;
  isClosed = false;
  #chunks: Buffer[] = [];

  constructor(connection: Connection) {
    this.connection = connection;
    connection.start(this);
  }

  /** All that came since the last time. */
  take(): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    return all;
  }

  send(...parts: readonly (Buffer | number[])[]): void {
    for (const part of parts) this.connection.send(Buffer.from(part));
  }

  received(chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  drained(): void {
    // Tests send little.
  }

  ended(): void {
    this.isEnded = true;
  }

  closed(): void {
    this.isClosed = true;
  }
}

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** An option as a client sends it. */
export function option(type: number, ...data: readonly Buffer[]): Buffer {
  const body = Buffer.concat(data);
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(type), u32(body.length), body]);
}

/** A string with its length in front. */
export function counted(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u32(bytes.length), bytes]);
}

/** A request with a compact header. */
export function request(
  type: number,
  cookie: number,
  offset: number | bigint,
  length: number,
  flags = 0,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  return Buffer.concat([u32(0x25609513), u16(flags), u16(type), u64(cookie), u64(offset), u32(length), payload]);
}

/** A request with an extended header. */
export function wideRequest(
  type: number,
  cookie: number,
  offset: number | bigint,
  length: number | bigint,
  flags = 0,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  return Buffer.concat([u32(0x21e41c71), u16(flags), u16(type), u64(cookie), u64(offset), u64(length), payload]);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** Option replies as a server sent them. Throws when they are anything else. */
export function optionReplies(bytes: Buffer): OptionReply[] {
  const replies: OptionReply[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.readBigUInt64BE(at) !== 0x3e889045565a9n) throw new Error(`no option reply at ${at}`);
    const length = bytes.readUInt32BE(at + 16);
    replies.push({
      option: bytes.readUInt32BE(at + 8),
      type: bytes.readUInt32BE(at + 12),
      data: bytes.subarray(at + 20, at + 20 + length),
    });
    at += 20 + length;
  }
  return replies;
}

/** A server's reply to an option. */
export function optionReply(option_: number, type: number, ...data: readonly Buffer[]): Buffer {
  const body = Buffer.concat(data);
  return Buffer.concat([u64(0x3e889045565a9n), u32(option_), u32(type), u32(body.length), body]);
}

export function simpleReply(cookie: number | bigint, error = 0, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u32(0x67446698), u32(error), u64(cookie), data]);
}

export function chunk(type: number, cookie: number | bigint, flags: number, body: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u32(0x668e33ef), u16(flags), u16(type), u64(cookie), u32(body.length), body]);
}
