/**
 * Writes what the server says while options are haggled over. One reply is two sends, header and data.
 *
 * Always holds: no text is longer than the specification allows, none has a NUL in it. Decides nothing.
 */
import type { Connection } from '@rephub/platform';
import type { BlockDevice } from '../block-device.js';
import {
  Info,
  MAX_STRING_BYTES,
  Option,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
  writeUint64,
} from '../wire/constants.js';
import { blockSizes, isUsualBlockSizes } from './block-sizes.js';
import type { ExportEntry, OpenExport, OpenRefusal } from './exports.js';

const REFUSALS = {
  unknown: OptionReply.ErrUnknown,
  policy: OptionReply.ErrPolicy,
  shutdown: OptionReply.ErrShutdown,
} as const;

export class OptionWriter {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  acknowledge(option: number): void {
    this.#send(option, OptionReply.Ack, NOTHING);
  }

  /** An error of type `type`, with words for people. */
  error(option: number, type: number, message = ''): void {
    this.#send(option, type, wireText(message));
  }

  refuse(option: number, refusal: OpenRefusal): void {
    this.error(option, REFUSALS[refusal.refused], refusal.message);
  }

  /** One entry of LIST. A name that is no string to the protocol cannot be asked for either, and is left out. */
  entry({ name, description }: ExportEntry): void {
    const nameBytes = Buffer.from(name);
    if (nameBytes.length > MAX_STRING_BYTES || name.includes('\0')) return;
    this.#send(
      Option.List,
      OptionReply.Server,
      Buffer.concat([uint32(nameBytes.length), nameBytes, wireText(description)]),
    );
  }

  context(option: number, id: number, name: string): void {
    this.#send(option, OptionReply.MetaContext, Buffer.concat([uint32(id), Buffer.from(name)]));
  }

  /** What INFO and GO tell of an export: size and flags always, unusual block sizes too, the rest when it is asked for. */
  information(option: number, opened: OpenExport, flags: number, asked: ReadonlySet<number>): void {
    const { device } = opened;
    this.#send(option, OptionReply.Info, exportInformation(device, flags));
    if (asked.has(Info.Name)) this.#send(option, OptionReply.Info, textInformation(Info.Name, opened.name));
    if (asked.has(Info.Description) && opened.description !== '') {
      this.#send(option, OptionReply.Info, textInformation(Info.Description, opened.description));
    }
    if (asked.has(Info.BlockSize) || !isUsualBlockSizes(device.limits)) {
      this.#send(option, OptionReply.Info, blockSizeInformation(device));
    }
  }

  #send(option: number, type: number, body: Buffer): void {
    const header = Buffer.alloc(20);
    header.writeUInt32BE(OPTION_REPLY_MAGIC_HIGH, 0);
    header.writeUInt32BE(OPTION_REPLY_MAGIC_LOW, 4);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(body.length, 16);
    this.#connection.send(header);
    if (body.length > 0) this.#connection.send(body);
  }
}

const NOTHING = Buffer.alloc(0);

/** A text as the protocol's strings are: at most 4096 bytes, cut between characters, and without NUL. */
function wireText(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('\0', ' '));
  if (bytes.length <= MAX_STRING_BYTES) return bytes;
  let end = MAX_STRING_BYTES;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

function exportInformation(device: BlockDevice, flags: number): Buffer {
  const info = Buffer.alloc(12);
  info.writeUInt16BE(Info.Export, 0);
  writeUint64(info, device.sizeBytes, 2);
  info.writeUInt16BE(flags, 10);
  return info;
}

function textInformation(type: number, text: string): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type, 0);
  return Buffer.concat([head, wireText(text)]);
}

function blockSizeInformation(device: BlockDevice): Buffer {
  const { minimumBytes, preferredBytes, maximumBytes } = blockSizes(device.limits);
  const info = Buffer.alloc(14);
  info.writeUInt16BE(Info.BlockSize, 0);
  info.writeUInt32BE(minimumBytes, 2);
  info.writeUInt32BE(preferredBytes, 6);
  info.writeUInt32BE(maximumBytes, 10);
  return info;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value, 0);
  return bytes;
}
