/**
 * The group's main line of history: opened, begun in the place of another, put aside when it cannot be believed, closed.
 * What belongs to the line that is to come (its seeds) is kept here until it begins.
 *
 * Always holds: these moves run one after the other; each is decided, durably, before a file is touched, so that one that is cut
 * short is finished by the next start; there is at most one line, and none while it changes.
 * Must not know: views, branches, sessions.
 */
import { asError, ConfigFault, CorruptionFault, InTurn } from '@rephub/platform';
import { type Line } from '@rephub/protocol';
import type { DecisionLog } from './decisions.js';
import { type Decided, finishSetAside, type GroupPaths, keepEarlierAside, keepOldBaseAside } from './group-lines.js';
import type { LineStoreEvents } from './line-options.js';
import { LineStore } from './line-store.js';
import type { Room } from './room.js';
import { type Seed, Seeds } from './seed/seeds.js';
import { SharedMemory } from './shared-memory.js';
import type { GroupStoreOptions, StorePlatform } from './store-types.js';

/** When left out. */
export const SEGMENT_BYTES = 64 * 1024 * 1024;
const QUEUE_BYTES = 16 * 1024 * 1024;

export interface MainLineParts {
  readonly platform: StorePlatform;
  readonly options: GroupStoreOptions;
  readonly paths: GroupPaths;
  readonly decisions: DecisionLog;
  readonly decided: Decided;
  readonly room: Room;
  /** Of whichever line is the main one. */
  readonly events: LineStoreEvents;
  /** There is one, with what its disk held. */
  readonly opened: (main: LineStore) => void;
  /** An agent owns the group. Before that no record of a line is taken. */
  readonly isOwned: () => boolean;
  /** It is about to be closed: whatever rests on it lets go. Resolves when that is done. */
  readonly leaving: (why: string) => Promise<void>;
}

export class MainLine {
  readonly #parts: MainLineParts;
  readonly #seeds: Seeds;
  #store: LineStore | null = null;
  /** A line has begun, now or ever. */
  #hasHistory: boolean;
  /** Of the line that was begun last, and was not put aside; what is on the disk of it may still have to be made. */
  #decidedId: string | null;
  #begunUnixMs: number | null;
  #setAsideCount: number;
  #setAsideWhy: string | null = null;
  readonly #changes = new InTurn();

  constructor(parts: MainLineParts) {
    const { decided, options, platform } = parts;
    this.#parts = parts;
    this.#begunUnixMs = decided.lineBegunUnixMs;
    this.#setAsideCount = decided.setAsideCount;
    this.#decidedId = decided.line?.id ?? null;
    this.#hasHistory = decided.line !== null || decided.setAsideCount > 0;
    this.#seeds = new Seeds(platform.files, options.directory, decided.seeds);
  }

  /** Null before the first one begins, and while another begins. */
  get store(): LineStore | null {
    return this.#store;
  }

  /** When it began here, by the hub's wall clock. */
  get begunUnixMs(): number | null {
    return this.#begunUnixMs;
  }

  /** Why the line before this one was put aside, until `forgetSetAside`. */
  get setAsideWhy(): string | null {
    return this.#setAsideWhy;
  }

  get seeds(): readonly Seed[] {
    return this.#seeds.list;
  }

  /** No line has a record, none was put aside, and nothing was seeded. */
  get isUntouched(): boolean {
    return this.#setAsideCount === 0 && this.#seeds.list.length === 0 && (this.#store?.writer.position ?? 0) === 0;
  }

  forgetSetAside(): void {
    this.#setAsideWhy = null;
  }

  /**
   * At the start: finishes what was decided, and opens the line; one that cannot be believed is put aside, and the group begins
   * anew. `isBlank`: no agent got to be the owner and nothing is there; what a line needs is made when an agent comes again.
   */
  async open(isBlank = false): Promise<void> {
    const { decided, paths, platform } = this.#parts;
    if (decided.setAside !== null) {
      const { line, directory, why } = decided.setAside;
      await finishSetAside(platform.files, paths, line, directory);
      this.#setAsideWhy = why;
    }
    await this.#parts.room.look();
    if (decided.line === null) {
      await this.#seeds.clean();
      return;
    }
    if (isBlank) return;
    try {
      const { knownDurable } = this.#parts.options;
      await this.#openStore(decided.line, knownDurable?.line === decided.line.id ? knownDurable.number : 0);
    } catch (error) {
      if (!(error instanceof CorruptionFault)) throw error;
      await this.#setAside(decided.line, error);
    }
  }

  /** Another line begins, in the place of the one before; nothing changes when it is this one. */
  begin(line: Line): Promise<void> {
    return this.#changes.run(() => this.#begin(line));
  }

  /** As GroupStore.seed. */
  seed(volume: string, path: string): Promise<Seed> {
    const { decisions, options, platform } = this.#parts;
    return this.#changes.run(async () => {
      if (this.#hasHistory) {
        const said = `group ${options.group} has a history: only a group that no agent has begun can be seeded`;
        throw new ConfigFault('has-history', said);
      }
      return await this.#seeds.add(volume, path, (sizeBytes) =>
        decisions.append({ kind: 'seeded', volume, sizeBytes }, platform.clock.unixMs()),
      );
    });
  }

  stopSeeding(): void {
    this.#seeds.stop();
  }

  /** Everything that was appended is on the disk and in the base images when it resolves. */
  async drain(): Promise<void> {
    const store = this.#store;
    if (store === null) return;
    await store.writer.settled();
    await store.applier.drain();
  }

  /** Resolves when no change is under way. */
  async unchanging(): Promise<void> {
    await this.#changes.settled();
  }

  async close(why: string, drain: boolean): Promise<void> {
    const store = this.#store;
    await this.#parts.leaving(why);
    if (store === null) return;
    try {
      if (drain) await this.drain();
    } finally {
      this.#store = null;
      await store.close();
    }
  }

  async #begin(line: Line): Promise<void> {
    if (this.#store?.line.id === line.id) return;
    // Before the old one is left: should there be no room for the decision, its last good point stays open (LASTGOOD).
    // One that was decided and could not be opened is tried again.
    if (this.#decidedId !== line.id) {
      if (this.#mayHandOn && this.#decidedId !== null) await this.#takeSeedsBack(this.#decidedId);
      await this.#decide(line);
    }
    await this.close('another line of history begins', false);
    try {
      await this.#openStore(line, 0);
    } catch (error) {
      // So that it can begin anew when the agent comes back.
      if (error instanceof CorruptionFault) await this.#setAside(line, error);
      throw error;
    }
  }

  async #decide(line: Line): Promise<void> {
    const { decisions, paths, platform } = this.#parts;
    // What it was in an earlier life is another history: the agent has been away since, and what it brings now is whole.
    await keepEarlierAside(platform.files, paths, line);
    // The decision before the rest: everything after it is finished by the next start, should this one be cut short.
    const begunUnixMs = platform.clock.unixMs();
    await decisions.append({ kind: 'line-begun', line }, begunUnixMs);
    this.#begunUnixMs = begunUnixMs;
    this.#decidedId = line.id;
    if (this.#hasHistory && !this.#mayHandOn) this.#seeds.forget();
    this.#hasHistory = true;
  }

  /** Nobody came to own the line there is: what it was seeded with is the next one's. */
  get #mayHandOn(): boolean {
    return !this.#parts.isOwned() && (this.#store?.writer.position ?? 0) === 0;
  }

  /** Cut short before another line is decided, the next start hands them to this one again. */
  async #takeSeedsBack(lineId: string): Promise<void> {
    // It holds nothing that could be missed, should the other one not be decided.
    await this.close('another line of history begins', false);
    await this.#seeds.takeBack(`${this.#parts.paths.lines}/${lineId}`);
  }

  /** `knownDurable`: of what is on the disk of it; more than that says itself, maybe. */
  async #openStore(line: Line, knownDurable: number): Promise<void> {
    const { events, options, paths, platform, room } = this.#parts;
    const { retentionMs, indexBytes, journalMaxBytes } = options;
    const queueBytes = options.queueBytes ?? QUEUE_BYTES;
    const directory = `${paths.lines}/${line.id}`;
    await keepOldBaseAside(platform.files, paths, line);
    await this.#seeds.handTo(directory);
    this.#store = await LineStore.open({
      platform,
      codecs: platform.codecs ?? [],
      directory,
      baseDirectory: paths.base,
      group: options.group,
      hubId: options.hubId,
      line,
      seeded: new Set(this.#seeds.list.map(({ volume }) => volume)),
      limits: { retentionMs, journalMaxBytes: journalMaxBytes ?? Infinity },
      knownDurable,
      isQuiet: options.isQuiet ?? (() => false),
      isGivenUp: options.isGivenUp ?? (() => false),
      segmentBytes: options.segmentBytes ?? SEGMENT_BYTES,
      queueBytes,
      memory: options.memory ?? { indexes: new SharedMemory(indexBytes), queues: new SharedMemory(queueBytes) },
      room,
      log: options.log,
      events,
    });
    this.#parts.opened(this.#store);
  }

  async #setAside(line: Line, fault: CorruptionFault): Promise<void> {
    const { decisions, options, paths, platform } = this.#parts;
    // No more than a decision may hold: one that cannot be read again would keep the group closed for ever.
    const why = asError(fault).message.slice(0, 4000);
    options.log.error('line-set-aside', { group: options.group, line: line.id, code: fault.code, message: why });
    this.#setAsideCount += 1;
    const directory = `${line.id}.damaged-${this.#setAsideCount}`;
    await decisions.append({ kind: 'set-aside', line, directory, why }, platform.clock.unixMs());
    this.#decidedId = null;
    await finishSetAside(platform.files, paths, line, directory);
    this.#setAsideWhy = why;
    this.#seeds.forget();
  }
}
