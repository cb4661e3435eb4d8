/**
 * The server's half of fixed newstyle negotiation for one connection: from the greeting to the export that
 * the client chose. One export is held open across the options that name it, so that what INFO told is
 * what GO serves.
 *
 * Always holds: an option's data is bounded before it is kept; an export opened here is either returned
 * or released. Knows nothing of transmission.
 */
import { asError, ProtocolFault } from '@rephub/platform';
import {
  HandshakeFlag,
  Info,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  type Framing,
  Option,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionReply,
  MAX_STRING_BYTES,
  writeUint64,
} from '../wire/constants.js';
import type { StreamReader } from '../wire/stream-reader.js';
import { type ExportClient, type ExportDirectory, isRefusal, type OpenExport, type OpenRefusal } from './exports.js';
import { parseInfoOption, parseMetaOption, selectContexts } from './option-data.js';
import { transmissionFlags } from './transmission-flags.js';

/** An option's data kept in memory; more is read off and answered TOO_BIG. */
const MAX_OPTION_BYTES = 64 * 1024;
/** More than this is no option but garbage. */
const MAX_OPTION_CLAIM = 32 * 1024 * 1024;
/** Options a client may send before it must get on with it. */
const MAX_OPTIONS = 65_536;

/** What was agreed. */
export interface Negotiated {
  readonly opened: OpenExport;
  readonly framing: Framing;
  /** Contexts for block status, in the order of their ids, which are 1, 2, … */
  readonly contexts: readonly string[];
}

export class ServerNegotiation {
  readonly #reader: StreamReader;
  readonly #directory: ExportDirectory;
  readonly #client: ExportClient;
  readonly #onBug: (error: Error) => void;
  #framing: Framing = 'simple';
  #noZeroes = false;
  #opened: OpenExport | null = null;
  #openedAs = '';
  #contexts: readonly string[] = [];
  #contextsFor = '';

  constructor(
    reader: StreamReader,
    directory: ExportDirectory,
    client: ExportClient,
    onBug: (error: Error) => void = () => undefined,
  ) {
    this.#reader = reader;
    this.#directory = directory;
    this.#client = client;
    this.#onBug = onBug;
  }

  /** Null when the client said goodbye (ABORT). Throws the ProtocolFault, or what the reader failed with. */
  async run(): Promise<Negotiated | null> {
    try {
      const negotiated = await this.#negotiate();
      if (negotiated !== null) this.#opened = null;
      return negotiated;
    } finally {
      this.#letGo();
    }
  }

  async #negotiate(): Promise<Negotiated | null> {
    await this.#greet();
    for (let count = 0; count < MAX_OPTIONS; count++) {
      const header = await this.#reader.take(16);
      if (header.readUInt32BE(0) !== OPTION_MAGIC_HIGH || header.readUInt32BE(4) !== OPTION_MAGIC_LOW) {
        throw new ProtocolFault('bad-option-magic', 'an option does not begin with IHAVEOPT');
      }
      const option = header.readUInt32BE(8);
      const length = header.readUInt32BE(12);
      if (length > MAX_OPTION_CLAIM) {
        throw new ProtocolFault('option-too-long', `option ${option} claims ${length} bytes of data`);
      }
      if (length > MAX_OPTION_BYTES) {
        await this.#reader.skip(length);
        if (option === Option.ExportName) throw refused('the export name is too long');
        this.#reply(option, OptionReply.ErrTooBig, `${length} bytes of data are too many`);
        continue;
      }
      const data = length === 0 ? NOTHING : await this.#reader.take(length);
      if (option === Option.Abort) {
        this.#reply(option, OptionReply.Ack);
        return null;
      }
      const done = await this.#option(option, data);
      if (done !== null) return done;
    }
    throw new ProtocolFault('too-many-options', `more than ${MAX_OPTIONS} options`);
  }

  async #greet(): Promise<void> {
    const greeting = Buffer.alloc(18);
    greeting.writeUInt32BE(NBD_MAGIC_HIGH, 0);
    greeting.writeUInt32BE(NBD_MAGIC_LOW, 4);
    greeting.writeUInt32BE(OPTION_MAGIC_HIGH, 8);
    greeting.writeUInt32BE(OPTION_MAGIC_LOW, 12);
    greeting.writeUInt16BE(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes, 16);
    this.#reader.connection.send(greeting);
    const flags = (await this.#reader.take(4)).readUInt32BE(0);
    if ((flags & ~(HandshakeFlag.FixedNewstyle | HandshakeFlag.NoZeroes)) !== 0) {
      throw new ProtocolFault('bad-client-flags', `client flags 0x${flags.toString(16)} are unknown`);
    }
    this.#noZeroes = (flags & HandshakeFlag.NoZeroes) !== 0;
  }

  async #option(option: number, data: Buffer): Promise<Negotiated | null> {
    switch (option) {
      case Option.ExportName:
        return await this.#exportName(data);
      case Option.Go:
      case Option.Info:
        return await this.#info(option, data);
      case Option.List:
        this.#list(data);
        return null;
      case Option.StructuredReply:
      case Option.ExtendedHeaders:
        this.#setFraming(option, data);
        return null;
      case Option.ListMetaContext:
      case Option.SetMetaContext:
        await this.#meta(option, data);
        return null;
      case Option.StartTls:
        if (data.length > 0) this.#reply(option, OptionReply.ErrInvalid, 'STARTTLS takes no data');
        else this.#reply(option, OptionReply.ErrUnsupported, 'TLS is not available here');
        return null;
      default:
        this.#reply(option, OptionReply.ErrUnsupported);
        return null;
    }
  }

  #setFraming(option: number, data: Buffer): void {
    if (data.length > 0) this.#reply(option, OptionReply.ErrInvalid, 'this option takes no data');
    else if (option === Option.ExtendedHeaders) {
      this.#framing = 'extended';
      this.#reply(option, OptionReply.Ack);
    } else if (this.#framing === 'extended') {
      this.#reply(option, OptionReply.ErrExtendedHeadersRequired, 'extended headers are in force');
    } else {
      this.#framing = 'structured';
      this.#reply(option, OptionReply.Ack);
    }
  }

  #list(data: Buffer): void {
    if (data.length > 0) {
      this.#reply(Option.List, OptionReply.ErrInvalid, 'LIST takes no data');
      return;
    }
    for (const { name, description } of this.#directory.list()) {
      const nameBytes = Buffer.from(name);
      const size = Buffer.alloc(4);
      size.writeUInt32BE(nameBytes.length, 0);
      this.#reply(Option.List, OptionReply.Server, Buffer.concat([size, nameBytes, Buffer.from(description)]));
    }
    this.#reply(Option.List, OptionReply.Ack);
  }

  async #exportName(data: Buffer): Promise<Negotiated> {
    if (this.#framing === 'extended') throw refused('EXPORT_NAME is not allowed with extended headers');
    const name = data.toString();
    const opened = await this.#open(name);
    if (isRefusal(opened)) throw refused(opened.message);
    const begun = opened.begin?.() ?? null;
    if (begun !== null) throw refused(begun.message);
    const answer = Buffer.alloc(this.#noZeroes ? 10 : 134);
    writeUint64(answer, opened.device.sizeBytes, 0);
    answer.writeUInt16BE(transmissionFlags(opened.device, this.#framing), 8);
    this.#reader.connection.send(answer);
    return { opened, framing: this.#framing, contexts: this.#contextsOf(name) };
  }

  async #info(option: number, data: Buffer): Promise<Negotiated | null> {
    const asked = parseInfoOption(data);
    if (asked === null) {
      this.#reply(option, OptionReply.ErrInvalid, 'malformed name or list of information');
      return null;
    }
    const opened = await this.#open(asked.name);
    if (isRefusal(opened)) {
      this.#refuse(option, opened);
      return null;
    }
    const begun = option === Option.Go ? (opened.begin?.() ?? null) : null;
    if (begun !== null) {
      this.#letGo();
      this.#refuse(option, begun);
      return null;
    }
    this.#tellInfo(option, opened, asked.infos);
    this.#reply(option, OptionReply.Ack);
    if (option === Option.Info) return null;
    return { opened, framing: this.#framing, contexts: this.#contextsOf(asked.name) };
  }

  #tellInfo(option: number, opened: OpenExport, infos: ReadonlySet<number>): void {
    const { device } = opened;
    const info = Buffer.alloc(12);
    info.writeUInt16BE(Info.Export, 0);
    writeUint64(info, device.sizeBytes, 2);
    info.writeUInt16BE(transmissionFlags(device, this.#framing), 10);
    this.#reply(option, OptionReply.Info, info);
    if (infos.has(Info.Name)) this.#reply(option, OptionReply.Info, infoText(Info.Name, opened.name));
    if (infos.has(Info.Description) && opened.description !== '') {
      this.#reply(option, OptionReply.Info, infoText(Info.Description, opened.description));
    }
    if (infos.has(Info.BlockSize)) {
      const sizes = Buffer.alloc(14);
      sizes.writeUInt16BE(Info.BlockSize, 0);
      sizes.writeUInt32BE(device.limits.minimumBytes, 2);
      sizes.writeUInt32BE(device.limits.preferredBytes, 6);
      sizes.writeUInt32BE(device.limits.maximumBytes, 10);
      this.#reply(option, OptionReply.Info, sizes);
    }
  }

  async #meta(option: number, data: Buffer): Promise<void> {
    const isSet = option === Option.SetMetaContext;
    // The selection is gone even when this one fails.
    if (isSet) this.#contexts = [];
    if (isSet && this.#framing === 'simple') {
      this.#reply(option, OptionReply.ErrInvalid, 'structured replies must be negotiated first');
      return;
    }
    const asked = parseMetaOption(data);
    if (asked === null) {
      this.#reply(option, OptionReply.ErrInvalid, 'malformed name or queries');
      return;
    }
    const opened = await this.#open(asked.name);
    if (isRefusal(opened)) {
      this.#refuse(option, opened);
      return;
    }
    const contexts = selectContexts(opened.device.abilities.contexts, asked.queries, isSet);
    for (const [index, context] of contexts.entries()) {
      const id = Buffer.alloc(4);
      id.writeUInt32BE(isSet ? index + 1 : 0, 0);
      this.#reply(option, OptionReply.MetaContext, Buffer.concat([id, Buffer.from(context)]));
    }
    this.#reply(option, OptionReply.Ack);
    if (isSet) {
      this.#contexts = contexts;
      this.#contextsFor = asked.name;
    }
  }

  #contextsOf(name: string): readonly string[] {
    return this.#contextsFor === name ? this.#contexts : [];
  }

  async #open(name: string): Promise<OpenExport | OpenRefusal> {
    if (Buffer.byteLength(name) > MAX_STRING_BYTES)
      return { refused: 'unknown', message: 'the export name is too long' };
    if (this.#opened !== null && this.#openedAs === name) return this.#opened;
    this.#letGo();
    try {
      const opened = await this.#directory.open(name, this.#client);
      if (!isRefusal(opened)) {
        this.#opened = opened;
        this.#openedAs = name;
      }
      return opened;
    } catch (error) {
      this.#onBug(asError(error));
      return { refused: 'policy', message: 'the export could not be opened' };
    }
  }

  #letGo(): void {
    const opened = this.#opened;
    this.#opened = null;
    opened?.release();
  }

  #refuse(option: number, refusal: OpenRefusal): void {
    const type = {
      unknown: OptionReply.ErrUnknown,
      policy: OptionReply.ErrPolicy,
      shutdown: OptionReply.ErrShutdown,
    }[refusal.refused];
    this.#reply(option, type, refusal.message);
  }

  #reply(option: number, type: number, data: Buffer | string = NOTHING): void {
    const body = typeof data === 'string' ? Buffer.from(data) : data;
    const header = Buffer.alloc(20);
    header.writeUInt32BE(OPTION_REPLY_MAGIC_HIGH, 0);
    header.writeUInt32BE(OPTION_REPLY_MAGIC_LOW, 4);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(body.length, 16);
    this.#reader.connection.send(header);
    if (body.length > 0) this.#reader.connection.send(body);
  }
}

const NOTHING = Buffer.alloc(0);

function infoText(type: number, text: string): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type, 0);
  return Buffer.concat([head, Buffer.from(text)]);
}

function refused(message: string): ProtocolFault {
  return new ProtocolFault('export-refused', message);
}
