/** An NBD client's bytes as they go over the wire: for clients that ask and do not read, stop halfway or say nothing more. */

/** An option as a client sends it. */
export function option(type: number, data = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(16);
  header.write('IHAVEOPT', 0, 'latin1');
  header.writeUInt32BE(type, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

/** A client's flags: fixed newstyle, no zeroes. */
export const CLIENT_FLAGS = Buffer.from([0, 0, 0, 3]);
/** GO for the default export, without an information request. */
const GO = option(7, Buffer.alloc(6));
/** What opens the default export, for a client that asks for nothing else. */
export const OPENING = Buffer.concat([CLIENT_FLAGS, GO]);
/** All that the server says until then: its greeting, the export's size and flags, the acknowledgement. */
export const OPENED_BYTES = 18 + (20 + 12) + 20;

/** Ahead of the data of a simple reply. */
export const SIMPLE_REPLY_BYTES = 16;

const COMMANDS = { read: 0, write: 1, disconnect: 2 } as const;

/** The header of a request. */
export function request(
  command: keyof typeof COMMANDS,
  length: number,
  { cookie = 0, offset = 0 }: { readonly cookie?: number; readonly offset?: number } = {},
): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(COMMANDS[command], 6);
  header.writeBigUInt64BE(BigInt(cookie), 8);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(length, 24);
  return header;
}
