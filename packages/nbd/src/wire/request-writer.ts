/** Writes the client's requests onto a connection: the header into a buffer used again, payload as the slices it is. */
import type { Connection } from '@rephub/platform';
import { type BlockRequest, Command } from '../block-device.js';
import {
  COMMAND_DISCONNECT,
  COMMAND_FLAG_PAYLOAD,
  EXTENDED_REQUEST_MAGIC,
  REQUEST_MAGIC,
  writeUint64,
} from './constants.js';

/** Block status of more than a compact header can ask for stops short here. */
const MAX_COMPACT_STATUS_BYTES = 0xffff_0000;

export class RequestWriter {
  readonly #connection: Connection;
  readonly #header: Buffer;
  readonly #extended: boolean;

  constructor(connection: Connection, extended: boolean) {
    this.#connection = connection;
    this.#extended = extended;
    this.#header = Buffer.alloc(extended ? 32 : 28);
    this.#header.writeUInt32BE(extended ? EXTENDED_REQUEST_MAGIC : REQUEST_MAGIC, 0);
  }

  request(request: BlockRequest, cookieHigh: number, cookieLow: number): void {
    const isWrite = request.command === Command.Write;
    const isFlush = request.command === Command.Flush;
    const flags = this.#extended && isWrite ? request.flags | COMMAND_FLAG_PAYLOAD : request.flags;
    this.#send(
      flags,
      request.command,
      cookieHigh,
      cookieLow,
      isFlush ? 0 : request.offset,
      isFlush ? 0 : request.length,
    );
    if (isWrite) for (const slice of request.data) this.#connection.send(slice);
  }

  disconnect(): void {
    this.#send(0, COMMAND_DISCONNECT, 0, 0, 0, 0);
  }

  #send(flags: number, type: number, cookieHigh: number, cookieLow: number, offset: number, length: number): void {
    const header = this.#header;
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    header.writeUInt32BE(cookieHigh, 8);
    header.writeUInt32BE(cookieLow, 12);
    writeUint64(header, offset, 16);
    if (this.#extended) writeUint64(header, length, 24);
    else header.writeUInt32BE(Math.min(length, type === Command.BlockStatus ? MAX_COMPACT_STATUS_BYTES : length), 24);
    this.#connection.send(header);
  }
}
