/**
 * The client's half of newstyle negotiation: asks for the best framing, contexts and information that the
 * server has, and falls back where it has them not. The connection is handed on once an export is chosen.
 *
 * Always holds: what the server says is bounded before it is kept and checked before it is believed.
 */
import { ConfigFault, type Fault, LinkFault, ProtocolFault } from '@rephub/platform';
import { type Abilities, DEFAULT_LIMITS, type Limits } from '../block-device.js';
import type { ExportEntry } from '../server/exports.js';
import {
  type Framing,
  HandshakeFlag,
  Info,
  MAX_PAYLOAD_BYTES,
  MAX_STRING_BYTES,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  OLDSTYLE_MAGIC_HIGH,
  OLDSTYLE_MAGIC_LOW,
  Option,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
  readUint64,
  TransmissionFlag,
} from '../wire/constants.js';
import type { StreamReader } from '../wire/stream-reader.js';

/** One reply to an option: name, description and a little more. */
const MAX_REPLY_BYTES = 64 * 1024;
const MAX_REPLIES = 65_536;
/** Names and descriptions of a list, in all. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;
const ERROR_BIT = 0x80000000;

/** An export as it was agreed on. */
export interface ServedExport {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly framing: Framing;
  readonly contextNames: ReadonlyMap<number, string>;
}

export interface Wishes {
  readonly exportName: string;
  readonly contexts: readonly string[];
  readonly extendedHeaders: boolean;
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

export class ClientNegotiation {
  readonly #reader: StreamReader;
  #fixed = false;
  #noZeroes = false;

  constructor(reader: StreamReader) {
    this.#reader = reader;
  }

  /**
   * Up to the moment when the export is chosen; from then on the server speaks transmission. A server that
   * refuses is told goodbye (ABORT), as the specification asks; one that broke the rules is not.
   */
  async choose(wishes: Wishes): Promise<ServedExport> {
    return await this.#orGoodbye(async () => await this.#choose(wishes));
  }

  /** All names; ends the negotiation with ABORT. */
  async list(): Promise<ExportEntry[]> {
    return await this.#orGoodbye(async () => await this.#list());
  }

  /** The size of an export, by INFO; ends the negotiation with ABORT. Throws `info-refused` where the server cannot tell. */
  async size(exportName: string): Promise<number> {
    return await this.#orGoodbye(async () => await this.#size(exportName));
  }

  async #orGoodbye<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (thrown) {
      if (this.#fixed && isRefusal(thrown)) this.#option(Option.Abort);
      throw thrown;
    }
  }

  async #choose(wishes: Wishes): Promise<ServedExport> {
    await this.#meet();
    if (!this.#fixed) return await this.#exportName(wishes.exportName, 'simple', new Map());
    let framing: Framing = 'simple';
    if (wishes.extendedHeaders && (await this.#agree(Option.ExtendedHeaders))) framing = 'extended';
    else if (await this.#agree(Option.StructuredReply)) framing = 'structured';
    const contextNames =
      framing === 'simple' || wishes.contexts.length === 0
        ? new Map<number, string>()
        : await this.#contexts(wishes.exportName, wishes.contexts);
    return await this.#go(wishes.exportName, framing, contextNames);
  }

  async #list(): Promise<ExportEntry[]> {
    await this.#meet();
    if (!this.#fixed) throw new ConfigFault('list-refused', 'the server is too old to tell its exports');
    this.#option(Option.List);
    const entries: ExportEntry[] = [];
    let bytes = 0;
    for (;;) {
      const reply = await this.#reply(Option.List);
      if (reply.type === OptionReply.Ack) break;
      if (isError(reply)) throw refusal('list-refused', 'the server does not tell its exports', reply);
      if (reply.type !== OptionReply.Server) throw bad(`reply type ${reply.type} to LIST`);
      entries.push(parseServerReply(reply.data));
      bytes += reply.data.length;
      if (entries.length > MAX_REPLIES || bytes > MAX_LIST_BYTES) throw bad(`a list beyond ${entries.length} exports`);
    }
    this.#option(Option.Abort);
    return entries;
  }

  async #size(exportName: string): Promise<number> {
    await this.#meet();
    if (!this.#fixed) throw new ConfigFault('info-refused', 'the server is too old to tell the size of an export');
    this.#option(Option.Info, counted(exportName), Buffer.alloc(2));
    let sizeBytes: number | null = null;
    for (let replies = 0; replies < MAX_REPLIES; replies++) {
      const reply = await this.#reply(Option.Info);
      if (reply.type === OptionReply.Ack) {
        if (sizeBytes === null) throw bad('no size of the export');
        // nbd-server opens what it serves only for GO, and says 0 before.
        if (sizeBytes === 0) throw new ConfigFault('info-refused', `the server tells no size of '${exportName}'`);
        this.#option(Option.Abort);
        return sizeBytes;
      }
      if (isError(reply)) throw refusal('info-refused', `the server does not tell the size of '${exportName}'`, reply);
      const { type, data } = reply;
      if (type !== OptionReply.Info || data.length < 2) throw bad(`reply type ${type} of ${data.length} bytes to INFO`);
      if (data.readUInt16BE(0) !== Info.Export) continue;
      if (data.length !== 12) throw bad(`${data.length} bytes of export information, expected 12`);
      sizeBytes = readUint64(data, 2);
    }
    throw bad('no end of information');
  }

  async #meet(): Promise<void> {
    const magic = await this.#reader.take(16);
    const high = magic.readUInt32BE(8);
    const low = magic.readUInt32BE(12);
    if (magic.readUInt32BE(0) !== NBD_MAGIC_HIGH || magic.readUInt32BE(4) !== NBD_MAGIC_LOW) {
      throw new ProtocolFault('not-nbd', 'the server does not greet with NBDMAGIC');
    }
    if (high === OLDSTYLE_MAGIC_HIGH && low === OLDSTYLE_MAGIC_LOW) {
      throw new ProtocolFault('oldstyle-server', 'the server speaks oldstyle negotiation only');
    }
    if (high !== OPTION_MAGIC_HIGH || low !== OPTION_MAGIC_LOW) {
      throw new ProtocolFault('not-nbd', 'the server does not greet with IHAVEOPT');
    }
    const flags = (await this.#reader.take(2)).readUInt16BE(0);
    this.#fixed = (flags & HandshakeFlag.FixedNewstyle) !== 0;
    this.#noZeroes = (flags & HandshakeFlag.NoZeroes) !== 0;
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(flags & (HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes), 0);
    this.#reader.connection.send(answer);
  }

  async #agree(option: number): Promise<boolean> {
    this.#option(option);
    const reply = await this.#reply(option);
    if (reply.type === OptionReply.Ack) return true;
    if (!isError(reply)) throw bad(`reply type ${reply.type} to option ${option}`);
    if (reply.type === OptionReply.ErrTlsRequired) throw tlsRequired();
    if (reply.type === OptionReply.ErrShutdown) throw serverClosing();
    return false;
  }

  async #contexts(exportName: string, contexts: readonly string[]): Promise<Map<number, string>> {
    const count = Buffer.alloc(4);
    count.writeUInt32BE(contexts.length, 0);
    this.#option(Option.SetMetaContext, counted(exportName), count, ...contexts.map(counted));
    const names = new Map<number, string>();
    for (let replies = 0; replies < MAX_REPLIES; replies++) {
      const reply = await this.#reply(Option.SetMetaContext);
      if (reply.type === OptionReply.Ack) return names;
      if (reply.type === OptionReply.ErrShutdown) throw serverClosing();
      // Whatever is wrong with the export itself, GO will say.
      if (isError(reply)) return new Map();
      if (reply.type !== OptionReply.MetaContext || reply.data.length < 5) {
        throw bad(`reply type ${reply.type} of ${reply.data.length} bytes to SET_META_CONTEXT`);
      }
      const name = reply.data.toString('utf8', 4);
      if (contexts.includes(name)) names.set(reply.data.readUInt32BE(0), name);
    }
    throw bad('no end of metadata contexts');
  }

  async #go(exportName: string, framing: Framing, contextNames: ReadonlyMap<number, string>): Promise<ServedExport> {
    const infos = Buffer.alloc(8);
    infos.writeUInt16BE(3, 0);
    infos.writeUInt16BE(Info.BlockSize, 2);
    infos.writeUInt16BE(Info.Name, 4);
    infos.writeUInt16BE(Info.Description, 6);
    this.#option(Option.Go, counted(exportName), infos);
    let found: { sizeBytes: number; flags: number } | null = null;
    let limits = DEFAULT_LIMITS;
    let name = exportName;
    let description = '';
    for (let replies = 0; replies < MAX_REPLIES; replies++) {
      const { type, data } = await this.#reply(Option.Go);
      if (type === OptionReply.Ack) {
        if (found === null) throw bad('no size of the export');
        return servedExport(name, description, found, limits, framing, contextNames);
      }
      if (type === OptionReply.ErrUnsupported && framing !== 'extended') {
        return await this.#exportName(exportName, framing, contextNames);
      }
      if (isError({ type, data })) throw goRefused(exportName, { type, data });
      if (type !== OptionReply.Info || data.length < 2) throw bad(`reply type ${type} of ${data.length} bytes to GO`);
      switch (data.readUInt16BE(0)) {
        case Info.Export:
          if (data.length !== 12) throw bad(`${data.length} bytes of export information, expected 12`);
          found = { sizeBytes: readUint64(data, 2), flags: data.readUInt16BE(10) };
          break;
        case Info.BlockSize:
          if (data.length !== 14) throw bad(`${data.length} bytes of block sizes, expected 14`);
          limits = checkLimits(data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10));
          break;
        case Info.Name:
          name = data.toString('utf8', 2);
          break;
        case Info.Description:
          description = data.toString('utf8', 2);
          break;
        default:
          break;
      }
    }
    throw bad('no end of information');
  }

  async #exportName(
    exportName: string,
    framing: Framing,
    contextNames: ReadonlyMap<number, string>,
  ): Promise<ServedExport> {
    this.#option(Option.ExportName, Buffer.from(exportName));
    let answer: Buffer;
    try {
      answer = await this.#reader.take(this.#noZeroes ? 10 : 134);
    } catch (error) {
      if (!(error instanceof LinkFault) || error.code !== 'connection-ended') throw error;
      // The only way in which this option can be refused.
      throw new ConfigFault('export-unknown', `the server has no export '${exportName}', or refuses it`, {
        cause: error,
      });
    }
    const found = { sizeBytes: readUint64(answer, 0), flags: answer.readUInt16BE(8) };
    return servedExport(exportName, '', found, DEFAULT_LIMITS, framing, contextNames);
  }

  #option(option: number, ...data: readonly Buffer[]): void {
    const body = Buffer.concat(data);
    const header = Buffer.alloc(16);
    header.writeUInt32BE(OPTION_MAGIC_HIGH, 0);
    header.writeUInt32BE(OPTION_MAGIC_LOW, 4);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(body.length, 12);
    this.#reader.connection.send(header);
    if (body.length > 0) this.#reader.connection.send(body);
  }

  async #reply(option: number): Promise<Reply> {
    const header = await this.#reader.take(20);
    if (
      header.readUInt32BE(0) !== OPTION_REPLY_MAGIC_HIGH ||
      header.readUInt32BE(4) !== OPTION_REPLY_MAGIC_LOW ||
      header.readUInt32BE(8) !== option
    ) {
      throw new ProtocolFault(
        'bad-option-reply',
        `expected a reply to option ${option}, got ${header.toString('hex')}`,
      );
    }
    const length = header.readUInt32BE(16);
    if (length > MAX_REPLY_BYTES) {
      throw new ProtocolFault('option-reply-too-long', `a reply to option ${option} claims ${length} bytes`);
    }
    return { type: header.readUInt32BE(12), data: length === 0 ? NOTHING : await this.#reader.take(length) };
  }
}

const NOTHING = Buffer.alloc(0);

function servedExport(
  name: string,
  description: string,
  found: { sizeBytes: number; flags: number },
  limits: Limits,
  framing: Framing,
  contextNames: ReadonlyMap<number, string>,
): ServedExport {
  if (found.sizeBytes > Number.MAX_SAFE_INTEGER) {
    throw new ProtocolFault('size-too-big', `an export of ${found.sizeBytes} bytes cannot be`);
  }
  const has = (flag: number): boolean => (found.flags & flag) !== 0;
  const writable = !has(TransmissionFlag.ReadOnly);
  const abilities: Abilities = {
    readOnly: !writable,
    flush: has(TransmissionFlag.SendFlush),
    fua: has(TransmissionFlag.SendFua),
    trim: writable && has(TransmissionFlag.SendTrim),
    writeZeroes: writable && has(TransmissionFlag.SendWriteZeroes),
    fastZero: writable && has(TransmissionFlag.SendWriteZeroes) && has(TransmissionFlag.SendFastZero),
    cache: has(TransmissionFlag.SendCache),
    multiConn: has(TransmissionFlag.CanMultiConn),
    contexts: [...new Set(contextNames.values())],
  };
  return { name, description, sizeBytes: found.sizeBytes, abilities, limits, framing, contextNames };
}

/** The specification's rules for block sizes; payloads beyond 32 MiB are of no use to us. */
function checkLimits(minimumBytes: number, preferredBytes: number, maximumBytes: number): Limits {
  const isSound =
    isPowerOfTwo(minimumBytes) &&
    minimumBytes <= 64 * 1024 &&
    isPowerOfTwo(preferredBytes) &&
    preferredBytes >= minimumBytes &&
    maximumBytes >= minimumBytes;
  if (!isSound) throw bad(`block sizes ${minimumBytes}, ${preferredBytes}, ${maximumBytes}`);
  // The largest payload may be any number; what we send are whole blocks.
  const most = Math.min(maximumBytes, MAX_PAYLOAD_BYTES);
  return { minimumBytes, preferredBytes, maximumBytes: most - (most % minimumBytes) };
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function parseServerReply(data: Buffer): ExportEntry {
  const nameBytes = data.length < 4 ? -1 : data.readUInt32BE(0);
  if (nameBytes < 0 || nameBytes > data.length - 4) throw bad('an export entry with a name longer than itself');
  return { name: data.toString('utf8', 4, 4 + nameBytes), description: data.toString('utf8', 4 + nameBytes) };
}

function isError(reply: Reply): boolean {
  return reply.type >= ERROR_BIT;
}

function goRefused(exportName: string, reply: Reply): Fault {
  switch (reply.type) {
    case OptionReply.ErrUnknown:
      return refusal('export-unknown', `the server has no export '${exportName}'`, reply);
    case OptionReply.ErrTlsRequired:
      return tlsRequired();
    case OptionReply.ErrShutdown:
      return serverClosing();
    default:
      return refusal(
        'export-refused',
        `the server refuses export '${exportName}' (0x${reply.type.toString(16)})`,
        reply,
      );
  }
}

function refusal(code: string, what: string, reply: Reply): ConfigFault {
  const text = reply.data.toString('utf8', 0, Math.min(reply.data.length, MAX_STRING_BYTES));
  return new ConfigFault(code, text === '' ? what : `${what}: ${text}`);
}

function serverClosing(): LinkFault {
  return new LinkFault('server-closing', 'the server is shutting down');
}

/** The server said no, within the rules: it is still there and waits for the next option. */
export function isRefusal(thrown: unknown): boolean {
  if (thrown instanceof LinkFault) return thrown.code === 'server-closing';
  return thrown instanceof ConfigFault && thrown.cause === undefined;
}

function tlsRequired(): ConfigFault {
  return new ConfigFault('tls-required', 'the server insists on TLS');
}

function bad(what: string): ProtocolFault {
  return new ProtocolFault('bad-option-reply', `the server sent ${what}`);
}

function counted(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([length, bytes]);
}
