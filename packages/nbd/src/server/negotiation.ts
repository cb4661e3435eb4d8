/**
 * The server's half of fixed newstyle negotiation for one connection: from the greeting to the export that
 * the client chose. One export is held open across the options that name it, so that what INFO told is
 * what GO serves.
 *
 * Always holds: an option's data is bounded before it is kept; an export opened here is either returned
 * or released. Knows nothing of transmission.
 */
import { asError, LinkFault, ProtocolFault } from '@rephub/platform';
import {
  HandshakeFlag,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  type Framing,
  Option,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OptionReply,
  MAX_STRING_BYTES,
  writeUint64,
} from '../wire/constants.js';
import type { StreamReader } from '../wire/stream-reader.js';
import { type ExportDirectory, isRefusal, type OpenExport, type OpenRefusal } from './exports.js';
import { parseInfoOption, parseMetaOption, selectContexts } from './option-data.js';
import { OptionWriter } from './option-writer.js';
import { transmissionFlags } from './transmission-flags.js';

/** An option's data kept in memory; more is read off and answered TOO_BIG. */
const MAX_OPTION_BYTES = 64 * 1024;
/** More than this is no option but garbage. */
const MAX_OPTION_CLAIM = 32 * 1024 * 1024;
/** Options, and bytes of them, that a client may send before it must get on with it. */
const MAX_OPTIONS = 16_384;
const MAX_HAGGLED_BYTES = 64 * 1024 * 1024;

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
  readonly #onBug: (error: Error) => void;
  readonly #writer: OptionWriter;
  /** In the midst of an option, so that the client waits for an answer. */
  #isAsked = false;
  #isClosing = false;
  #framing: Framing = 'simple';
  #noZeroes = false;
  #opened: OpenExport | null = null;
  #openedAs = '';
  #contexts: readonly string[] = [];
  #contextsFor = '';

  constructor(reader: StreamReader, directory: ExportDirectory, onBug: (error: Error) => void = () => undefined) {
    this.#reader = reader;
    this.#writer = new OptionWriter(reader.connection);
    this.#directory = directory;
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

  /** The server closes: a client that waits for an answer is told so, then the negotiation ends with `server-closing`. */
  finish(): void {
    this.#isClosing = true;
    if (!this.#isAsked) this.#reader.fail(serverClosing());
  }

  async #negotiate(): Promise<Negotiated | null> {
    await this.#greet();
    let bytes = 0;
    for (let count = 0; count < MAX_OPTIONS && bytes < MAX_HAGGLED_BYTES; count++) {
      const header = await this.#reader.take(16);
      this.#isAsked = true;
      const length = header.readUInt32BE(12);
      bytes += length;
      const done = await this.#next(header, length);
      if (done !== undefined) return done;
      // Whoever asks without reading the answers waits for himself.
      await this.#reader.uncongested();
      if (this.#isClosing) throw serverClosing();
      this.#isAsked = false;
    }
    throw new ProtocolFault('too-many-options', `${MAX_OPTIONS} options, or ${MAX_HAGGLED_BYTES} bytes of them`);
  }

  /** One option. Undefined when the haggling goes on. */
  async #next(header: Buffer, length: number): Promise<Negotiated | null | undefined> {
    if (header.readUInt32BE(0) !== OPTION_MAGIC_HIGH || header.readUInt32BE(4) !== OPTION_MAGIC_LOW) {
      throw new ProtocolFault('bad-option-magic', 'an option does not begin with IHAVEOPT');
    }
    const option = header.readUInt32BE(8);
    if (length > MAX_OPTION_CLAIM) {
      throw new ProtocolFault('option-too-long', `option ${option} claims ${length} bytes of data`);
    }
    if (length > MAX_OPTION_BYTES) {
      await this.#reader.skip(length);
      if (option === Option.ExportName) throw refused('the export name is too long');
      // A selection is replaced even by one that fails.
      if (option === Option.SetMetaContext) this.#contexts = [];
      if (option === Option.Abort) return this.#abort();
      if (!KNOWN_OPTIONS.has(option)) this.#writer.error(option, OptionReply.ErrUnsupported);
      else this.#writer.error(option, OptionReply.ErrTooBig, `${length} bytes of data are too many`);
      return undefined;
    }
    const data = length === 0 ? NOTHING : await this.#reader.take(length);
    if (option === Option.Abort) return this.#abort();
    return (await this.#option(option, data)) ?? undefined;
  }

  #abort(): null {
    this.#writer.acknowledge(Option.Abort);
    return null;
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
        await this.#list(data);
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
        if (data.length > 0) this.#writer.error(option, OptionReply.ErrInvalid, 'STARTTLS takes no data');
        else this.#writer.error(option, OptionReply.ErrUnsupported, 'TLS is not available here');
        return null;
      default:
        this.#writer.error(option, OptionReply.ErrUnsupported);
        return null;
    }
  }

  #setFraming(option: number, data: Buffer): void {
    if (data.length > 0) this.#writer.error(option, OptionReply.ErrInvalid, 'this option takes no data');
    else if (option === Option.ExtendedHeaders) {
      this.#framing = 'extended';
      this.#writer.acknowledge(option);
    } else if (this.#framing === 'extended') {
      this.#writer.error(option, OptionReply.ErrExtendedHeadersRequired, 'extended headers are in force');
    } else {
      this.#framing = 'structured';
      this.#writer.acknowledge(option);
    }
  }

  async #list(data: Buffer): Promise<void> {
    if (data.length > 0) {
      this.#writer.error(Option.List, OptionReply.ErrInvalid, 'LIST takes no data');
      return;
    }
    for (const entry of this.#directory.list()) {
      this.#writer.entry(entry);
      if (this.#reader.connection.congested) await this.#reader.uncongested();
    }
    this.#writer.acknowledge(Option.List);
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
    answer.writeUInt16BE(this.#flagsOf(opened, name), 8);
    this.#reader.connection.send(answer);
    return { opened, framing: this.#framing, contexts: this.#contextsOf(name) };
  }

  async #info(option: number, data: Buffer): Promise<Negotiated | null> {
    const asked = parseInfoOption(data);
    if (asked === null) {
      this.#writer.error(option, OptionReply.ErrInvalid, 'malformed name or list of information');
      return null;
    }
    const opened = await this.#open(asked.name);
    if (isRefusal(opened)) {
      this.#writer.refuse(option, opened);
      return null;
    }
    const begun = option === Option.Go ? (opened.begin?.() ?? null) : null;
    if (begun !== null) {
      this.#letGo();
      this.#writer.refuse(option, begun);
      return null;
    }
    this.#writer.information(option, opened, this.#flagsOf(opened, asked.name), asked.infos);
    this.#writer.acknowledge(option);
    if (option === Option.Info) return null;
    return { opened, framing: this.#framing, contexts: this.#contextsOf(asked.name) };
  }

  #flagsOf(opened: OpenExport, name: string): number {
    return transmissionFlags(opened.device, this.#framing, this.#contextsOf(name).length > 0);
  }

  async #meta(option: number, data: Buffer): Promise<void> {
    const isSet = option === Option.SetMetaContext;
    // The selection is gone even when this one fails.
    if (isSet) this.#contexts = [];
    if (isSet && this.#framing === 'simple') {
      this.#writer.error(option, OptionReply.ErrInvalid, 'structured replies must be negotiated first');
      return;
    }
    const asked = parseMetaOption(data);
    if (asked === null) {
      this.#writer.error(option, OptionReply.ErrInvalid, 'malformed name or queries');
      return;
    }
    const opened = await this.#open(asked.name);
    if (isRefusal(opened)) {
      this.#writer.refuse(option, opened);
      return;
    }
    const contexts = selectContexts(opened.device.abilities.contexts, asked.queries, isSet);
    for (const [index, context] of contexts.entries()) {
      this.#writer.context(option, isSet ? index + 1 : 0, context);
    }
    this.#writer.acknowledge(option);
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
      const opened = await this.#directory.open(name);
      if (this.#isClosing) {
        if (!isRefusal(opened)) opened.release();
        return { refused: 'shutdown', message: 'the server is closing' };
      }
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
}

const NOTHING = Buffer.alloc(0);
const KNOWN_OPTIONS: ReadonlySet<number> = new Set(Object.values(Option));

function refused(message: string): ProtocolFault {
  return new ProtocolFault('export-refused', message);
}

function serverClosing(): LinkFault {
  return new LinkFault('server-closing', 'the server is closing');
}
