/**
 * An agent of a few hundred lines, made of the protocol package alone: it says what a script tells it to, right or
 * wrong, and keeps its records so that they can be sent again. For tests of the hub that need no disk and no guest.
 */
import { type Address, type Fault, LinkFault, type Platform, randomUuid, uuidBytes } from '@rephub/platform';
import {
  type Ack,
  type AgentReport,
  decideLineage,
  firstNumberOf,
  FrameFlag,
  FrameLink,
  FrameType,
  type Hashes,
  type Hello,
  type PackedPayload,
  type ReadRegion,
  RecordEncoder,
  type Refuse,
  type Request,
  encodeBody,
  type Verdict,
  type Welcome,
} from '@rephub/protocol';
import { within } from './wait.js';

export interface ScriptedAgentOptions {
  readonly group?: string;
  readonly volumes?: readonly { readonly name: string; readonly sizeBytes: number }[];
  readonly agentId?: string;
  readonly nonce?: string;
  readonly session?: number;
  readonly lineId?: string;
}

export const MIB = 1024 * 1024;

interface Kept {
  readonly number: number;
  readonly frame: readonly Uint8Array[];
  /** Header checksum of the record before it. */
  readonly previous: number;
}

type Ended = { readonly fault: Fault | null; readonly refuse: Refuse | null };

/** What survives a session: identity, numbers, and the records sent so far. */
export class ScriptedAgent {
  readonly group: string;
  readonly volumes: readonly { readonly index: number; readonly name: string; readonly sizeBytes: number }[];
  readonly agentId: string;
  readonly lineId: string;
  nonce: string;
  session: number;
  tracking: Hello['tracking'] = 'new';
  durable = 0;
  received = 0;
  lastAck: Ack | null = null;
  /** What the hub told last. */
  welcome: Welcome | null = null;
  verdict: Verdict | null = null;
  /** Told with each beat. */
  report: AgentReport;
  readonly requests: Request['kind'][] = [];
  /** Answers to questions about digests, as they came. */
  readonly hashes: Hashes[] = [];
  /** Answers remote reads; the default leaves them unanswered. */
  onReadRegion: (region: ReadRegion) => void = () => undefined;
  readonly #platform: Platform;
  readonly #address: Address;
  #encoder: RecordEncoder;
  #kept: Kept[] = [];
  #link: FrameLink | null = null;
  #ended: Promise<Ended> = Promise.resolve({ fault: null, refuse: null });
  #waiters: { readonly when: () => boolean; readonly resolve: () => void; readonly reject: (why: Error) => void }[] =
    [];
  #gone = false;
  /** The hub's clock in the newest beat from there: without it, all that this agent reports is as old as its session. */
  #echoMs: number | null = null;

  constructor(platform: Platform, address: Address, options: ScriptedAgentOptions = {}) {
    this.#platform = platform;
    this.#address = address;
    this.group = options.group ?? 'vm1';
    this.volumes = (options.volumes ?? [{ name: 'disk0', sizeBytes: 8 * MIB }]).map((volume, index) => ({
      index,
      ...volume,
    }));
    this.agentId = options.agentId ?? randomUuid(platform.randomness);
    this.nonce = options.nonce ?? randomUuid(platform.randomness);
    this.lineId = options.lineId ?? randomUuid(platform.randomness);
    this.session = options.session ?? 1;
    this.#encoder = new RecordEncoder(uuidBytes(this.lineId), 1, 0);
    this.report = {
      state: 'protected',
      reason: 'in step',
      mode: 'async',
      effectiveMode: 'async',
      rpoMs: 0,
      lagBytes: 0,
      dirtyBytes: 0,
      lastNumber: 0,
      resync: null,
      lastResync: null,
    };
  }

  get link(): FrameLink {
    if (this.#link === null) throw new Error('the agent has not connected');
    return this.#link;
  }

  get lastNumber(): number {
    return this.#encoder.nextNumber - 1;
  }

  /** How the session ended, when it has. */
  ended(timeoutMs = 10_000): Promise<Ended> {
    return within('the session to end', timeoutMs, this.#ended);
  }

  hello(changes: Partial<Hello> = {}): Hello {
    const [first] = this.#kept;
    return {
      protocol: { min: 1, max: 1 },
      features: [],
      software: 'scripted agent',
      group: this.group,
      agentId: this.agentId,
      session: this.session,
      nonce: this.nonce,
      line: { id: this.lineId, parent: null },
      lastNumber: this.lastNumber,
      restsOn: 0,
      durableNumber: this.durable,
      window:
        first === undefined ? null : { first: first.number, last: this.lastNumber, previousChecksum: first.previous },
      tracking: this.tracking,
      volumes: [...this.volumes],
      mode: 'async',
      ...changes,
    };
  }

  /** Connects; says nothing yet. */
  async connect(): Promise<void> {
    const connection = await this.#platform.network.connect(this.#address, { timeoutMs: 5000 });
    this.#gone = false;
    this.#echoMs = null;
    let refuse: Refuse | null = null;
    this.#ended = new Promise((resolve) => {
      this.#link = new FrameLink({
        connection,
        clock: this.#platform.clock,
        heartbeatMs: 100,
        timeoutMs: 5000,
        beat: () => ({
          sentMs: this.#platform.clock.monotonicMs(),
          echoMs: this.#echoMs,
          unixMs: this.#platform.clock.unixMs(),
          report: this.report,
        }),
        handlers: {
          welcome: (welcome) => {
            this.welcome = welcome;
            this.#look();
          },
          ack: (ack) => {
            this.lastAck = ack;
            this.received = Math.max(this.received, ack.received);
            this.durable = Math.max(this.durable, ack.durable);
            this.#look();
          },
          beat: ({ sentMs }) => (this.#echoMs = sentMs),
          readRegion: (region) => this.onReadRegion(region),
          request: ({ kind }) => {
            this.requests.push(kind);
            this.#look();
          },
          hashes: (hashes) => {
            this.hashes.push(hashes);
            this.#look();
          },
          refuse: (said) => (refuse = said),
          closed: (fault) => {
            this.#gone = true;
            resolve({ fault, refuse });
            const why = new LinkFault('session-ended', refuse?.message ?? fault?.message ?? 'the session ended');
            for (const waiter of this.#waiters.splice(0)) waiter.reject(why);
          },
        },
      });
    });
  }

  /** Waits until what came from the hub makes `when` true; throws when the session ends before. */
  async until(what: string, when: () => boolean, timeoutMs = 10_000): Promise<void> {
    if (when()) return;
    if (this.#gone) throw new LinkFault('session-ended', `the session ended before ${what}`);
    await within(
      what,
      timeoutMs,
      new Promise<void>((resolve, reject) => this.#waiters.push({ when, resolve, reject })),
    );
  }

  /** Connects, shakes hands as a right agent does, and sends what the hub lacks when the verdict is resume. */
  async begin(changes: Partial<Hello> = {}): Promise<Verdict> {
    await this.connect();
    this.welcome = null;
    this.lastAck = null;
    const hello = this.hello(changes);
    this.link.sendControl(FrameType.Hello, hello);
    await this.until('Welcome', () => this.welcome !== null);
    const welcome = this.welcome as Welcome | null;
    const verdict = decideLineage(hello, welcome?.group ?? null);
    this.verdict = verdict;
    this.link.sendControl(FrameType.Start, {
      verdict: verdict.kind,
      row: verdict.row,
      firstNumber: firstNumberOf(verdict),
    });
    await this.until('the first acknowledgement', () => this.lastAck !== null);
    const { resumeFrom } = verdict;
    if (resumeFrom === undefined) {
      if (verdict.kind !== 'nothing-to-do') this.#encoder.skipTo(verdict.nextNumber, verdict.previousChecksum);
    } else {
      for (const { number, frame } of this.#kept) if (number >= resumeFrom) this.link.send(frame);
    }
    return verdict;
  }

  /** First sync of volumes that hold `content` (or nothing); returns when the hub has it durable. */
  async firstSync(content: ReadonlyMap<string, Buffer> = new Map()): Promise<void> {
    for (const volume of this.volumes) {
      this.record(FrameType.VolumeAdded, { volume: volume.index, length: volume.sizeBytes }, [
        encodeBody({ name: volume.name }),
      ]);
    }
    this.spanBegin('first sync', false);
    for (const volume of this.volumes) {
      const bytes = content.get(volume.name);
      if (bytes === undefined) continue;
      for (let offset = 0; offset < bytes.length; offset += MIB) {
        const part = bytes.subarray(offset, offset + MIB);
        this.write(offset, part, { volume: volume.index, flags: FrameFlag.Copied });
      }
    }
    await this.durableUpTo(this.record(FrameType.SpanEnd));
    this.tracking = 'marked';
  }

  /** Connects as new and does the first sync. */
  async protect(content: ReadonlyMap<string, Buffer> = new Map()): Promise<void> {
    await this.begin();
    await this.firstSync(content);
  }

  spanBegin(cause: string, continues: boolean): number {
    return this.record(FrameType.SpanBegin, {}, [encodeBody({ cause, continues })]);
  }

  write(offset: number, bytes: Uint8Array, more: { volume?: number; flags?: number; tag?: number } = {}): number {
    return this.record(FrameType.Write, { ...more, offset, length: bytes.length }, [bytes]);
  }

  /** Sends one record, whatever it is, and keeps it; its payload as it is, or `packed`. Returns its number. */
  record(
    type: FrameType,
    fields: { volume?: number; flags?: number; offset?: number; length?: number; tag?: number } = {},
    payload: readonly Uint8Array[] = [],
    packed: PackedPayload | null = null,
  ): number {
    const previous = this.#encoder.lastChecksum;
    const timeUs = Math.round(this.#platform.clock.unixMs() * 1000);
    const { volume = 0, flags = 0, offset = 0, length = 0, tag = 0 } = fields;
    const number = this.#encoder.encode(type, flags, volume, offset, length, timeUs, tag, payload, packed);
    const { head, tail } = this.#encoder;
    const frame = [head, ...(packed?.slices ?? payload), tail];
    this.#kept.push({ number, frame, previous });
    this.#link?.send(frame);
    return number;
  }

  async durableUpTo(number: number): Promise<void> {
    await this.until(`number ${number} to be durable`, () => this.durable >= number);
  }

  /** Sends a record that was sent before, as it was. */
  sendAgain(number: number): void {
    const kept = this.#kept.find((record) => record.number === number);
    if (kept === undefined) throw new Error(`record ${number} is not kept`);
    this.link.send(kept.frame);
  }

  /** Forgets the records that it could send again. */
  dropWindow(): void {
    this.#kept = [];
  }

  /** The connection is cut, without a word. */
  cut(): void {
    this.link.destroy(null);
  }

  /** An orderly end. */
  async bye(why = 'the script is over'): Promise<void> {
    this.link.end(why);
    await this.ended();
  }

  #look(): void {
    for (const waiter of [...this.#waiters]) {
      if (!waiter.when()) continue;
      this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
      waiter.resolve();
    }
  }
}
