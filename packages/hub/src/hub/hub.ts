/**
 * The hub: one data directory, its identity, its groups, and the agents that come and go. It knows the
 * groups by name and hands each session to its group; between groups nothing is shared but what is given
 * to all of them at the start.
 *
 * Always holds: the directory is locked against a second hub before anything in it is read; an agent can do
 * nothing to the hub but end its own session.
 *
 * Must not know: HTTP, NBD, the command line.
 */
import {
  asError,
  ConfigFault,
  type Connection,
  Fault,
  type FileLock,
  LinkFault,
  NAME_PATTERN,
  PayloadBudget,
  type Platform,
  StorageFault,
  type Timer,
} from '@rephub/platform';
import { DEFAULT_HEARTBEAT_MS, DEFAULT_TIMEOUT_MS, type Hello, type ProtectionState } from '@rephub/protocol';
import type { Catalogue } from '../catalogue/catalogue.js';
import type { GroupStatus } from '../group/group-status.js';
import { Group } from '../group/group.js';
import type { GroupSurroundings, OpenStore } from '../group/surroundings.js';
import { type Seed, SharedMemory } from '../storage/index.js';
import { AgentSession, type Meeting, type Refusal, type SessionHost } from '../session/session.js';
import { HubCounters } from '../counters.js';
import { type EventLog } from '../events/events.js';
import { type EventsFile } from '../events/events-file.js';
import { type HubIdentity, openIdentity, refuseAgentState } from '../identity.js';
import { openEvents, tellStart, tellStop } from '../events/kept-events.js';
import { unknownGroup } from '../unknown-names.js';

export interface HubOptions {
  readonly directory: string;
  readonly software: string;
  readonly heartbeatMs?: number;
  readonly timeoutMs?: number;
  readonly storage: GroupSurroundings['storage'];
  readonly openStore: OpenStore;
  /** Given once the directory is ours; may tell its troubles to the events. */
  readonly openCatalogue: (directory: string, trouble: (event: string, message: string) => void) => Promise<Catalogue>;
}

const MAX_GROUPS = 1000;
const MAX_AGENT_CONNECTIONS = 2000;
/** Of all groups' journals, appended and not written: with it used, those that use most read no more; at twice that, none does. */
const QUEUES_BYTES = 32 * 1024 * 1024;
const WATCH_MS = 1000;
const NOTE_EVERY_MS = 60_000;
const REMEMBER_EVERY_MS = 10_000;
/** The same refusal is told again after this long: agents come back every few seconds, for ever. */
const TELL_AGAIN_MS = 60_000;

export class Hub implements SessionHost {
  readonly identity: HubIdentity;
  readonly events: EventLog;
  readonly counters = new HubCounters();
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
  readonly codecs: Platform['codecs'];
  readonly startedUnixMs: number;
  readonly #platform: Platform;
  readonly #directory: string;
  readonly #lock: FileLock;
  readonly #catalogue: Catalogue;
  readonly #eventsFile: EventsFile;
  readonly #around: GroupSurroundings;
  readonly #groups = new Map<string, Group>();
  /** For records that have not come whole: agents that stop halfway hold so much together. */
  readonly #payloads: PayloadBudget;
  readonly #sessions = new Set<AgentSession>();
  readonly #states = new Map<string, ProtectionState>();
  readonly #toldAt = new Map<string, number>();
  /** Names of groups that are being moved out of the way. */
  readonly #forgetting = new Set<string>();
  #watch: Timer | null = null;
  #notedAtMs = 0;
  #rememberedAtMs = 0;
  #closing = false;

  /**
   * Takes the directory, and recovers every group in it.
   * Throws a StorageFault `data-locked`, and what openIdentity throws.
   */
  static async open(platform: Platform, options: HubOptions): Promise<Hub> {
    const { directory } = options;
    await makeDataDirectory(platform.files, directory);
    await refuseAgentState(platform.files, directory);
    const lock = await platform.files.lock(`${directory}/lock`);
    if (lock === null) {
      const said = `${directory} is in use by another rephub; one hub serves a data directory`;
      throw new StorageFault('data-locked', said, { retryable: true });
    }
    let eventsFile: EventsFile | null = null;
    try {
      const identity = await openIdentity(platform.files, platform.randomness, directory);
      await platform.files.makeDirectory(`${directory}/groups`);
      await clearForgotten(platform.files, `${directory}/forgotten`);
      const { events, file } = await openEvents(platform, directory);
      eventsFile = file;
      tellStart(events, file.earlier, options.software);
      const catalogue = await options.openCatalogue(directory, (event, message) => {
        events.tell(null, 'warn', event, message);
      });
      const hub = new Hub(platform, options, { identity, lock, catalogue, events, eventsFile });
      await hub.#recover();
      return hub;
    } catch (thrown) {
      await eventsFile?.close();
      await lock.release();
      throw thrown;
    }
  }

  private constructor(
    platform: Platform,
    options: HubOptions,
    own: {
      readonly identity: HubIdentity;
      readonly lock: FileLock;
      readonly catalogue: Catalogue;
      readonly events: EventLog;
      readonly eventsFile: EventsFile;
    },
  ) {
    this.#platform = platform;
    this.#payloads = new PayloadBudget(platform.clock);
    this.#directory = options.directory;
    this.#lock = own.lock;
    this.#catalogue = own.catalogue;
    this.identity = own.identity;
    this.events = own.events;
    this.#eventsFile = own.eventsFile;
    this.startedUnixMs = platform.clock.unixMs();
    this.codecs = platform.codecs;
    this.times = {
      heartbeatMs: options.heartbeatMs ?? DEFAULT_HEARTBEAT_MS,
      timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    };
    this.#around = {
      platform,
      identity: own.identity,
      software: options.software,
      times: this.times,
      storage: {
        ...options.storage,
        memory: { indexes: new SharedMemory(options.storage.indexBytes), queues: new SharedMemory(QUEUES_BYTES) },
      },
      openStore: options.openStore,
      catalogue: own.catalogue,
      toldSoFar: () => {
        const { lastId } = own.events;
        return () => own.eventsFile.isKept(lastId);
      },
    };
  }

  /** Groups that there is something to say of, by name. */
  get groups(): Group[] {
    return [...this.#groups.values()].filter((group) => !group.isVacant).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Throws a ConfigFault `unknown-group`. */
  group(name: string): Group {
    const group = this.#groups.get(name);
    if (group !== undefined && !group.isVacant) return group;
    throw unknownGroup(
      name,
      this.groups.map((known) => known.name),
    );
  }

  status(): { readonly groups: readonly GroupStatus[] } {
    return { groups: this.groups.map((group) => group.status()) };
  }

  get agentConnections(): number {
    return this.#sessions.size;
  }

  /** A connection on an agents' listener. */
  accept(connection: Connection): void {
    this.counters.agentConnections += 1;
    if (this.#closing || this.#sessions.size >= MAX_AGENT_CONNECTIONS) {
      this.counters.sessionEnds.add(this.#closing ? 'hub-stopping' : 'too-many-connections');
      connection.destroy();
      return;
    }
    this.#sessions.add(new AgentSession(this, this.#platform.clock, connection, this.#payloads));
  }

  async meet(session: AgentSession, hello: Hello): Promise<Meeting | Refusal> {
    if (this.#closing) return { refused: new LinkFault('hub-stopping', 'the hub stops'), retryAfterMs: 1000 };
    let group = this.#groups.get(hello.group);
    if (group === undefined) {
      if (this.#groups.size >= MAX_GROUPS) {
        const message = `this hub has ${MAX_GROUPS} groups, no more are taken`;
        return { refused: new StorageFault('too-many-groups', message), retryAfterMs: 60_000 };
      }
      group = this.#makeGroup(hello.group);
    }
    const meeting = await group.agent.meet(session, hello);
    if (!session.isOpen) {
      group.agent.over(session, null);
      this.#leaveVacant(hello.group);
    }
    return meeting;
  }

  over(session: AgentSession, fault: Fault | null): void {
    this.#sessions.delete(session);
    this.counters.sessionEnds.add(fault?.code ?? 'bye');
    const { groupName } = session;
    if (fault !== null && !session.hasBegun) this.#tellRefused(session, fault);
    if (groupName !== null) this.#leaveVacant(groupName);
  }

  /** A name that somebody has only asked for is forgotten again. */
  #leaveVacant(name: string): void {
    if (this.#groups.get(name)?.isIdleVacant === true) this.#groups.delete(name);
  }

  /** Seeds a volume of a group that is not known yet, or has only been seeded. Throws what Group.seed throws. */
  async seed(name: string, volume: string, path: string): Promise<Seed> {
    if (this.#closing) throw new LinkFault('hub-stopping', 'the hub stops');
    const group = this.#groups.get(name) ?? this.#makeGroup(name);
    try {
      return await group.seed(volume, path);
    } finally {
      this.#leaveVacant(name);
    }
  }

  /**
   * All of the group's data is removed; its agent, if it comes back, begins anew. What cannot be moved out of the way stays
   * a group that is open. Throws `unknown-group`, `being-forgotten`, and what the disk says.
   */
  async forget(name: string): Promise<void> {
    const group = this.group(name);
    // The second one would find nothing to move, and open the group again where nothing is.
    if (this.#forgetting.has(name)) throw new ConfigFault('being-forgotten', `group ${name} is being forgotten`);
    this.#forgetting.add(name);
    let aside: string;
    try {
      aside = await this.#moveAside(name, group);
    } finally {
      this.#forgetting.delete(name);
    }
    const { files } = this.#platform;
    await files.syncDirectory(`${this.#directory}/groups`);
    this.events.tell(name, 'warn', 'forgotten', `group ${name} was forgotten on an operator's word, with all its data`);
    await files.removeTree(aside);
  }

  /** Closes the group and moves what there is of it to where nothing is a group; returns that place. */
  async #moveAside(name: string, group: Group): Promise<string> {
    const { files, clock } = this.#platform;
    await files.makeDirectory(`${this.#directory}/forgotten`);
    const aside = `${this.#directory}/forgotten/${name}.${Math.floor(clock.unixMs())}`;
    await group.close(false, `group ${name} is being forgotten`).catch((thrown: unknown) => {
      // A disk that fails is no reason to keep what is to go.
      this.events.tell(name, 'warn', 'close-failed', asError(thrown).message);
    });
    try {
      // Renamed first: from here on nothing of it is a group, whatever happens while the files go.
      await files.rename(`${this.#directory}/groups/${name}`, aside);
    } catch (thrown) {
      await this.#openAgain(name);
      throw thrown;
    }
    this.#groups.delete(name);
    this.#states.delete(name);
    this.#catalogue.forgotten(name);
    return aside;
  }

  /** Agents are told goodbye and no more are taken. */
  endSessions(reason: string): void {
    this.#closing = true;
    this.#watch?.cancel();
    for (const group of this.#groups.values()) {
      group.faults.wall('ending its session', () => {
        group.endSession(reason);
      });
    }
    for (const session of this.#sessions) session.end(reason);
  }

  /** Closes everything: sessions, tests, storage, catalogue, lock. Throws the first failure, having done the rest. */
  async close(drain: boolean): Promise<void> {
    this.endSessions('the hub stops');
    const failures: Error[] = [];
    for (const group of this.#groups.values()) {
      await group.close(drain).catch((thrown: unknown) => {
        const error = asError(thrown);
        failures.push(error);
        this.events.tell(group.name, 'error', 'close-failed', error.message);
      });
    }
    this.#catalogue.close();
    tellStop(this.events);
    await this.#eventsFile.close();
    await this.#lock.release();
    const [first] = failures;
    if (first !== undefined) throw first;
  }

  async #recover(): Promise<void> {
    const { files } = this.#platform;
    for (const name of await files.list(`${this.#directory}/groups`)) {
      if (!NAME_PATTERN.test(name)) continue;
      const group = this.#makeGroup(name);
      await group.recover();
      group.noteSoon();
      this.#leaveVacant(name);
    }
    this.#catalogue.begun([...this.#groups.keys()]);
    this.#watchStates();
  }

  #makeGroup(name: string): Group {
    const group = this.#newGroup(name);
    this.#groups.set(name, group);
    return group;
  }

  #newGroup(name: string): Group {
    return new Group(name, `${this.#directory}/groups/${name}`, this.#around, this.events.teller(name));
  }

  /** A group that was closed, from its files. Until it is there the closed one has its name, and agents wait. */
  async #openAgain(name: string): Promise<void> {
    const isClosing = (): boolean => this.#closing;
    if (isClosing()) return;
    const group = this.#newGroup(name);
    await group.recover();
    if (isClosing()) await group.close(false);
    else this.#groups.set(name, group);
  }

  /** Changes of state become events, and now and then the catalogue is told what has grown. */
  #watchStates(): void {
    const now = this.#platform.clock.monotonicMs();
    const noteNow = now - this.#notedAtMs >= NOTE_EVERY_MS;
    if (noteNow) this.#notedAtMs = now;
    const rememberNow = now - this.#rememberedAtMs >= REMEMBER_EVERY_MS;
    if (rememberNow) this.#rememberedAtMs = now;
    this.#watch = this.#platform.clock.after(WATCH_MS, () => this.#watchStates());
    for (const group of this.groups) {
      group.faults.wall('watching its state', () => {
        this.#watchState(group);
        if (noteNow) group.noteSoon();
        if (rememberNow) void group.agent.remember();
      });
    }
  }

  #watchState(group: Group): void {
    const { state, reason } = group.status();
    const before = this.#states.get(group.name);
    if (before === state) return;
    this.#states.set(group.name, state);
    const level = state === 'protected' || state === 'catching-up' ? 'info' : 'warn';
    const said = `${before ?? 'new'} → ${state}: ${reason}`;
    this.events.tell(group.name, level, 'state-changed', said, { state, reason });
  }

  #tellRefused(session: AgentSession, fault: Fault): void {
    const key = `${session.groupName ?? ''} ${fault.code}`;
    const now = this.#platform.clock.monotonicMs();
    const before = this.#toldAt.get(key);
    if (before !== undefined && now - before < TELL_AGAIN_MS) return;
    if (this.#toldAt.size > MAX_GROUPS) this.#toldAt.clear();
    this.#toldAt.set(key, now);
    const { peer, groupName } = session;
    // What the link itself found names the peer already.
    const said = fault.message.includes(peer) ? fault.message : `${peer}: ${fault.message}`;
    this.events.tell(groupName, 'warn', 'session-refused', said, { code: fault.code, peer });
  }
}

/** Throws ConfigFault `data-not-made` where trying again would not help: a path below a file, say. */
async function makeDataDirectory(files: Platform['files'], directory: string): Promise<void> {
  try {
    await files.makeDirectory(directory);
  } catch (cause) {
    if (cause instanceof Fault && cause.retryable) throw cause;
    throw new ConfigFault('data-not-made', `--data: ${asError(cause).message}`, { cause });
  }
}

/**
 * What an earlier run had not finished removing. The directory stays: it cannot be made on a full disk, and forgetting is
 * one way to make room there.
 */
async function clearForgotten(files: Platform['files'], directory: string): Promise<void> {
  if ((await files.status(directory)) !== null) {
    for (const name of await files.list(directory)) await files.removeTree(`${directory}/${name}`);
  }
  // Where it cannot be made, whoever wants to forget a group is told so.
  await files.makeDirectory(directory).catch(() => undefined);
}
