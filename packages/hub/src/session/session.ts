/**
 * One agent's conversation with the hub, on one link: Hello, Welcome, Start, then records in and
 * acknowledgements out, until either side ends it (docs/design.md, "A session").
 *
 * Always holds:
 *  - a record reaches the store only after both sides came to the same verdict and the owner is durable;
 *  - acknowledgements say what the store says, at most one per turn; of what is received and not yet durable only where
 *    somebody waits for that (semi-sync): each costs both sides a system call and a wake-up; while the store is congested nothing is read;
 *  - whatever the agent sends wrongly ends this session, with a reason, and nothing else.
 *
 * Must not know: other groups, other sessions, files.
 */
import {
  type BlockCodec,
  type Clock,
  type Connection,
  Fault,
  LinkFault,
  type PayloadBudget,
  ProtocolFault,
  StorageFault,
  type Timer,
} from '@rephub/platform';
import {
  type Beat,
  codecFeature,
  codecOf,
  Compression,
  decideLineage,
  firstNumberOf,
  FrameLink,
  type FrameHeader,
  FrameType,
  fullReason,
  HASHES_FEATURE,
  type Hello,
  type KeptFinding,
  type Request,
  type Start,
  type Verdict,
  type Welcome,
} from '@rephub/protocol';
import type { GroupStore } from '../storage/index.js';
import { HashRequests } from './hash-requests.js';
import { type RegionAnswer, type RegionRequest, RemoteReads } from './remote-reads.js';

/** Why a session is not let in, and when it makes sense to come back; null: not before somebody acts. */
export interface Refusal {
  readonly refused: Fault;
  readonly retryAfterMs: number | null;
}

export function isRefusal(answer: object): answer is Refusal {
  return 'refused' in answer;
}

/** The hub, as a session sees it. */
export interface SessionHost {
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
  readonly codecs: readonly BlockCodec[];
  /** Finds the agent's group and lets the session in, ending an older one of the same agent; not one that is over meanwhile. */
  meet(session: AgentSession, hello: Hello): Promise<Meeting | Refusal>;
  /** The session is over, in whatever phase. Called once. */
  over(session: AgentSession, fault: Fault | null): void;
}

export interface Meeting {
  readonly welcome: Welcome;
  readonly group: SessionGroup;
}

/** The group, as its session sees it. */
export interface SessionGroup {
  /** Both sides agree: makes the agent the group's durable owner, and the line the group's line. */
  begin(session: AgentSession, hello: Hello, verdict: Verdict): Promise<GroupStore | Refusal>;
  /** What the lineage table says of this agent's Hello. */
  concluded(verdict: Verdict): void;
  beat(session: AgentSession, beat: Beat): void;
  /** Of the differences that were told last: those of which the event is on the disk. */
  readonly kept: readonly KeptFinding[];
  record(header: FrameHeader, raw: readonly Buffer[]): void;
  /** A volume that is known gets another size. */
  resized(index: number, sizeBytes: number): void;
  acknowledged(): void;
  over(session: AgentSession, fault: Fault | null): void;
}

type Phase =
  | { readonly name: 'hello' }
  /** The hub is at work; the agent has nothing to say. */
  | { readonly name: 'busy' }
  | { readonly name: 'start' }
  | { readonly name: 'running'; readonly store: GroupStore; readonly hashes: HashRequests }
  | { readonly name: 'over' };

/** Frames that speak of what cannot be: the same agent comes back only after a while. */
const RETRY_MS = 1000;
/** After a resync was refused for want of room. */
const NO_ROOM_RETRY_MS = 5000;

export class AgentSession {
  readonly #clock: Clock;
  readonly #host: SessionHost;
  readonly #link: FrameLink;
  readonly #reads: RemoteReads;
  #phase: Phase = { name: 'hello' };
  #group: SessionGroup | null = null;
  #startLimit: Timer | null = null;
  #ackQueued = false;
  #lastReceived = -1;
  #lastDurable = -1;
  #lastStalled: string | null = null;
  /** Guests wait for records to be received, not only to be durable. */
  #isSemiSync = false;
  #paused = false;
  #peerSentMs: number | null = null;
  #groupName: string | null = null;
  #features: readonly string[] = [];
  /** Compressions that a record may come with, by the number in its header. */
  #agreed: readonly number[] = [];
  #hasBegun = false;
  #farewell: string | null = null;
  #resumes = false;
  #volumes = new Map<number, { readonly name: string; readonly sizeBytes: number }>();

  /** Starts at once. `payloads` is for records that have not come whole, of all sessions. */
  constructor(host: SessionHost, clock: Clock, connection: Connection, payloads?: PayloadBudget) {
    this.#host = host;
    this.#clock = clock;
    this.#reads = new RemoteReads(clock, host.codecs, (region) => this.#link.sendControl(FrameType.ReadRegion, region));
    this.#link = new FrameLink({
      connection,
      clock,
      heartbeatMs: host.times.heartbeatMs,
      timeoutMs: host.times.timeoutMs,
      beat: () => this.#beat(),
      // The journal holds what it takes, remote reads copy it.
      countedRecords: true,
      ...(payloads === undefined ? {} : { payloads }),
      handlers: { hello: (hello) => this.#hello(hello), closed: this.#closed },
    });
  }

  get peer(): string {
    return this.#link.peer;
  }

  get isOpen(): boolean {
    return this.#link.isOpen;
  }

  get isRunning(): boolean {
    return this.#phase.name === 'running' && this.#link.isOpen;
  }

  /** As Hello named it; null before. */
  get groupName(): string | null {
    return this.#groupName;
  }

  /** It got beyond the handshake. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** Why the agent ended the session in order; null unless it did. */
  get farewell(): string | null {
    return this.#farewell;
  }

  /** The hub does not read: beats wait in the socket. */
  get isPaused(): boolean {
    return this.#link.isDeaf;
  }

  /** An orderly end: the agent will come back. */
  end(reason: string): void {
    this.#link.end(reason);
    this.#reads.end(reason);
  }

  /** Asks the agent for a region; see RemoteReads for how it can fail. */
  readRegion(request: RegionRequest): Promise<RegionAnswer> {
    const answer = this.#reads.read(request);
    this.#giveUpReads();
    return answer;
  }

  /** While the journal takes nothing, and so nothing is read here, no answer can come: nobody should wait for one. */
  #giveUpReads(): void {
    const stalled = this.#phase.name === 'running' ? this.#phase.store.progress.stalled : null;
    if (stalled === null || (stalled !== 'journal-failed' && !this.#link.isDeaf)) return;
    const why = `the hub takes nothing from the agent for now: ${stalled}`;
    this.#reads.giveUp(new StorageFault(stalled, why, { retryable: stalled !== 'journal-failed' }));
  }

  /** `id` names a verification. Kinds that need digests are for agents that have them: see `hasHashes`. */
  request(kind: Request['kind'], id?: string): void {
    this.#link.sendControl(FrameType.Request, id === undefined ? { kind } : { kind, id });
  }

  /** The agent can ask for digests, and so compare and verify. */
  get hasHashes(): boolean {
    return this.#features.includes(HASHES_FEATURE);
  }

  /** The store's figures have changed; told to the agent at the end of this turn. */
  progressed(): void {
    if (this.#ackQueued || this.#phase.name !== 'running') return;
    if (this.#phase.store.progress.stalled !== null) this.#giveUpReads();
    this.#ackQueued = true;
    queueMicrotask(() => this.#sendAck());
  }

  /** Stops reading, or goes on. */
  congested(now: boolean): void {
    if (this.#paused === now) return;
    this.#paused = now;
    if (now) this.#link.pause();
    else this.#link.resume();
    if (now) this.#giveUpReads();
  }

  #hello(hello: Hello): void {
    this.#phase = { name: 'busy' };
    this.#groupName = hello.group;
    this.#features = hello.features;
    this.#isSemiSync = hello.mode === 'semi-sync';
    this.#link.use({ closed: this.#closed });
    this.#meet(hello).catch((thrown: unknown) => this.#failed(thrown));
  }

  async #meet(hello: Hello): Promise<void> {
    const meeting = await this.#host.meet(this, hello);
    if (isRefusal(meeting)) {
      this.#link.refuse(meeting.refused, meeting.retryAfterMs);
      return;
    }
    if (!this.#link.isOpen) return;
    this.#group = meeting.group;
    const { features } = meeting.welcome;
    const agreed = this.#host.codecs.filter(({ name }) => features.includes(codecFeature(name)));
    this.#agreed = agreed.map(({ name }) => Compression[name]);
    this.#volumes = new Map(hello.volumes.map(({ index, name, sizeBytes }) => [index, { name, sizeBytes }]));
    const verdict = decideLineage(hello, meeting.welcome.group);
    meeting.group.concluded(verdict);
    this.#phase = { name: 'start' };
    this.#link.use({ start: (start) => this.#start(hello, verdict, start), closed: this.#closed });
    this.#startLimit = this.#clock.after(2 * this.#host.times.timeoutMs, () => {
      this.#link.refuse(new ProtocolFault('no-start', 'agent has not answered Welcome in time'), RETRY_MS);
    });
    this.#link.sendControl(FrameType.Welcome, meeting.welcome);
  }

  #start(hello: Hello, verdict: Verdict, start: Start): void {
    this.#startLimit?.cancel();
    const first = firstNumberOf(verdict);
    // The guest goes on writing between Hello and Start: a new record's number may have risen, a repeated one's not.
    const fits = verdict.kind === 'resume' ? start.firstNumber === first : start.firstNumber >= first;
    if (start.verdict !== verdict.kind || start.row !== verdict.row || !fits) {
      throw new ProtocolFault(
        'verdict-differs',
        `agent concludes ${start.verdict} by ${start.row} from number ${start.firstNumber}, the hub ${verdict.kind} by ${verdict.row} from ${first}`,
      );
    }
    if (verdict.kind === 'refuse' || verdict.kind === 'split-brain' || verdict.kind === 'superseded') {
      this.#link.refuse(new ProtocolFault(verdict.kind, `${verdict.row}: ${fullReason(verdict)}`), null);
      return;
    }
    this.#phase = { name: 'busy' };
    this.#link.use({ closed: this.#closed });
    this.#begin(hello, verdict).catch((thrown: unknown) => this.#failed(thrown));
  }

  async #begin(hello: Hello, verdict: Verdict): Promise<void> {
    const group = this.#group;
    if (group === null) return;
    const store = await group.begin(this, hello, verdict);
    if (isRefusal(store)) {
      this.#link.refuse(store.refused, store.retryAfterMs);
      return;
    }
    if (!this.#link.isOpen) return;
    const hashes = new HashRequests(
      (asked, signal) => store.hashRegion(asked, signal),
      (answer) => {
        // The agent believes digests only of what it knows to be durable here.
        this.#sendAck();
        this.#link.sendControl(FrameType.Hashes, answer);
      },
    );
    this.#phase = { name: 'running', store, hashes };
    this.#hasBegun = true;
    this.#resumes = verdict.kind === 'resume';
    this.#link.use({
      record: (header, raw) => this.#record(group, store, header, raw),
      beat: (beat) => {
        this.#peerSentMs = beat.sentMs;
        if (beat.report !== null) this.#isSemiSync = beat.report.mode === 'semi-sync';
        group.beat(this, beat);
      },
      ...(this.hasHashes ? { hashRegion: (asked) => hashes.asked(asked) } : {}),
      bye: ({ reason }) => {
        this.#farewell = reason;
      },
      regionRefused: (refused) => this.#reads.refused(refused.tag, refused.code, refused.message),
      closed: this.#closed,
    });
    this.#sendAck();
    this.congested(store.progress.congested);
  }

  #record(group: SessionGroup, store: GroupStore, header: FrameHeader, raw: readonly Buffer[]): void {
    // A dead journal takes nothing more; the agent keeps its records, and the beats go on.
    if (store.progress.stalled === 'journal-failed') return;
    if (header.type === FrameType.VolumeAdded || header.type === FrameType.Resize) {
      this.#checkVolume(store, header);
      if (header.type === FrameType.Resize) group.resized(header.volume, header.length);
    }
    if (header.type === FrameType.VolumeRemoved && this.#volumes.has(header.volume)) {
      throw new ProtocolFault('wrong-volume', `record ${header.number} removes a volume that Hello named`);
    }
    if (header.compression !== Compression.none && !this.#agreed.includes(header.compression)) {
      const what = codecOf(header.compression, this.#host.codecs)?.name ?? `codec ${header.compression}`;
      throw new ProtocolFault(
        'record-compressed',
        `record ${header.number} comes with ${what}, which was not agreed upon`,
      );
    }
    try {
      store.append(header, raw);
    } catch (thrown) {
      if (!(thrown instanceof StorageFault) || thrown.code !== 'span-too-big') throw thrown;
      // The agent keeps its records and marks what comes; there is no hurry until room is made.
      this.#link.refuse(thrown, NO_ROOM_RETRY_MS);
      return;
    }
    group.record(header, raw);
    this.#reads.record(header, raw);
  }

  /**
   * A volume comes with the size that Hello told, or not at all (SIZE). Only what is resumed may hold records of before it
   * has grown to that, with a size in between.
   */
  #checkVolume(store: GroupStore, header: FrameHeader): void {
    const told = this.#volumes.get(header.volume);
    if (told?.sizeBytes === header.length) return;
    const held = store.state.volumes.find(({ index }) => index === header.volume)?.sizeBytes ?? 0;
    if (this.#resumes && told !== undefined && header.length < told.sizeBytes && header.length >= held) return;
    throw new ProtocolFault(
      'wrong-size',
      told === undefined
        ? `record ${header.number} is of volume number ${header.volume}, which Hello did not name`
        : `record ${header.number} makes volume ${told.name} of ${header.length} bytes, Hello said ${told.sizeBytes}`,
    );
  }

  #sendAck(): void {
    this.#ackQueued = false;
    if (this.#phase.name !== 'running') return;
    const { receivedNumber, durableNumber, stalled } = this.#phase.store.progress;
    const isNews = durableNumber !== this.#lastDurable || stalled !== this.#lastStalled;
    if (!isNews && (!this.#isSemiSync || receivedNumber === this.#lastReceived)) return;
    this.#lastReceived = receivedNumber;
    this.#lastDurable = durableNumber;
    this.#lastStalled = stalled;
    this.#group?.acknowledged();
    this.#link.sendControl(FrameType.Ack, { received: receivedNumber, durable: durableNumber, stalled });
  }

  #beat(): Beat {
    const kept = this.#phase.name === 'running' ? (this.#group?.kept ?? []) : [];
    return {
      ...{ sentMs: this.#clock.monotonicMs(), echoMs: this.#peerSentMs, unixMs: this.#clock.unixMs(), report: null },
      ...(kept.length === 0 ? {} : { kept: [...kept] }),
    };
  }

  /** Our own failing, while the agent waits: the disk, or a bug. The agent comes back; the reason is told and counted. */
  #failed(thrown: unknown): void {
    const fault = thrown instanceof Fault ? thrown : new LinkFault('internal-error', String(thrown), { cause: thrown });
    this.#link.refuse(fault, RETRY_MS);
  }

  readonly #closed = (fault: Fault | null): void => {
    if (this.#phase.name === 'running') this.#phase.hashes.end();
    this.#phase = { name: 'over' };
    this.#startLimit?.cancel();
    this.#reads.end(fault?.message ?? 'the session with the agent has ended');
    this.#group?.over(this, fault);
    this.#host.over(this, fault);
  };
}
