/** The numbers of the NBD protocol, under the names of its specification (doc/proto.md), newstyle only. */

export const NBD_MAGIC_HIGH = 0x4e42444d; // "NBDMAGIC"
export const NBD_MAGIC_LOW = 0x41474943;
export const OPTION_MAGIC_HIGH = 0x49484156; // "IHAVEOPT"
export const OPTION_MAGIC_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;
export const OLDSTYLE_MAGIC_HIGH = 0x00004202;
export const OLDSTYLE_MAGIC_LOW = 0x81861253;

export const REQUEST_MAGIC = 0x25609513;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Bits of the server's handshake flags; the client's have the same two. */
export const HandshakeFlag = { FixedNewstyle: 1, NoZeroes: 2 } as const;

export const Option = {
  ExportName: 1,
  Abort: 2,
  List: 3,
  StartTls: 5,
  Info: 6,
  Go: 7,
  StructuredReply: 8,
  ListMetaContext: 9,
  SetMetaContext: 10,
  ExtendedHeaders: 11,
} as const;

export const OptionReply = {
  Ack: 1,
  Server: 2,
  Info: 3,
  MetaContext: 4,
  ErrUnsupported: 0x80000001,
  ErrPolicy: 0x80000002,
  ErrInvalid: 0x80000003,
  ErrPlatform: 0x80000004,
  ErrTlsRequired: 0x80000005,
  ErrUnknown: 0x80000006,
  ErrShutdown: 0x80000007,
  ErrBlockSizeRequired: 0x80000008,
  ErrTooBig: 0x80000009,
  ErrExtendedHeadersRequired: 0x8000000a,
} as const;

export const Info = { Export: 0, Name: 1, Description: 2, BlockSize: 3 } as const;

export const TransmissionFlag = {
  HasFlags: 1 << 0,
  ReadOnly: 1 << 1,
  SendFlush: 1 << 2,
  SendFua: 1 << 3,
  Rotational: 1 << 4,
  SendTrim: 1 << 5,
  SendWriteZeroes: 1 << 6,
  SendDf: 1 << 7,
  CanMultiConn: 1 << 8,
  SendResize: 1 << 9,
  SendCache: 1 << 10,
  SendFastZero: 1 << 11,
  BlockStatusPayload: 1 << 12,
} as const;

/** NBD_CMD_DISC: no request to a device, so not among Command. */
export const COMMAND_DISCONNECT = 2;
/** NBD_CMD_FLAG_PAYLOAD_LEN, of extended headers only. */
export const COMMAND_FLAG_PAYLOAD = 1 << 5;

export const Chunk = {
  None: 0,
  OffsetData: 1,
  OffsetHole: 2,
  BlockStatus: 5,
  BlockStatusExtended: 6,
  Error: 0x8001,
  ErrorOffset: 0x8002,
} as const;
export const CHUNK_ERROR_BIT = 0x8000;
export const CHUNK_FLAG_DONE = 1;

/** The longest string that the specification allows. */
export const MAX_STRING_BYTES = 4096;
/** The payload that every server takes when nothing else is said. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
export const DEFAULT_PORT = 10809;

/** How requests and replies are framed on a connection. */
export type Framing = 'simple' | 'structured' | 'extended';

const TWO_32 = 0x1_0000_0000;

/** A 64-bit number as a double: exact up to 2^53, beyond that merely too big for anything. */
export function readUint64(from: Buffer, at: number): number {
  return from.readUInt32BE(at) * TWO_32 + from.readUInt32BE(at + 4);
}

/** `value` is a safe integer. */
export function writeUint64(into: Buffer, value: number, at: number): void {
  into.writeUInt32BE(Math.floor(value / TWO_32), at);
  into.writeUInt32BE(value % TWO_32, at + 4);
}
