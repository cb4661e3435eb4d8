/**
 * One group's storage: its main line, its decisions, and what is open of it.
 *
 * Always holds: see store-types.ts, and the files that it ties together. Methods that change which line there is run one
 * after the other; `append` in between is refused while there is no line.
 * Must not know: sessions, sockets, HTTP, other groups.
 */
import {
  asError,
  ConfigFault,
  CorruptionFault,
  type Fault,
  type Platform,
  ProtocolFault,
  StorageFault,
} from '@rephub/platform';
import { type FrameHeader, type HashRegion, type HubGroup, type Line, type RegionHashes } from '@rephub/protocol';
import { DecisionLog } from './decisions.js';
import {
  type Decided,
  finishSetAside,
  type GroupPaths,
  groupPaths,
  keepOldBaseAside,
  readDecisions,
  removeBranches,
} from './group-lines.js';
import { groupStateOf, type Progress } from './group-state.js';
import { LineStore } from './line-store.js';
import { type Seed, Seeds } from './seed/seeds.js';
import type {
  Branch,
  BranchOptions,
  GroupState,
  GroupStore,
  GroupStoreListener,
  GroupStoreOptions,
  Owner,
  StallReason,
  View,
  ViewOptions,
} from './store-types.js';
import { OpenBranches } from './open-branches.js';
import { Room } from './room.js';
import { PointContent } from './views/point-content.js';
import { PointView } from './views/view.js';

const SEGMENT_BYTES = 64 * 1024 * 1024;
const QUEUE_BYTES = 16 * 1024 * 1024;

export type StorePlatform = Pick<Platform, 'clock' | 'randomness' | 'files'> & Partial<Pick<Platform, 'codecs'>>;

/** Opens, and recovers, one group's storage; makes it when it is missing. */
export async function openGroupStore(platform: StorePlatform, options: GroupStoreOptions): Promise<GroupStore> {
  const { files } = platform;
  const paths = groupPaths(options.directory);
  await files.makeDirectory(paths.group);
  const { log: decisions, decisions: stored } = await DecisionLog.open(files, paths.decisions, options.group);
  try {
    const decided = readDecisions(stored);
    await removeBranches(files, paths);
    for (const name of decided.openBranches) {
      options.log.info('branch-removed', { group: options.group, branch: name, why: 'the hub was started again' });
      await decisions.append({ kind: 'branch-dropped', name }, platform.clock.unixMs());
    }
    const store = new OpenGroupStore(platform, options, paths, decisions, decided);
    if (decided.setAside !== null) {
      const { line, directory, why } = decided.setAside;
      await finishSetAside(files, paths, line, directory);
      store.setAsideWhy = why;
    }
    await store.lookAtRoom();
    if (decided.line !== null) await store.openLine(decided.line);
    else await store.seeds.clean();
    return store;
  } catch (error) {
    await decisions.close();
    throw error;
  }
}

class OpenGroupStore implements GroupStore {
  listener: GroupStoreListener | null = null;
  readonly progress: Progress = {
    lastNumber: 0,
    receivedNumber: 0,
    durableNumber: 0,
    consistentNumber: null,
    stalled: null,
    congested: false,
  };
  /** Why the line before this one was put aside, until this one has a consistent point. */
  setAsideWhy: string | null = null;
  readonly #platform: StorePlatform;
  readonly seeds: Seeds;
  /** A line has begun, now or ever. */
  #hasHistory: boolean;
  readonly #options: GroupStoreOptions;
  readonly #paths: GroupPaths;
  readonly #decisions: DecisionLog;
  #owner: Owner | null;
  #lineBegunUnixMs: number | null;
  #setAsideCount: number;
  #main: LineStore | null = null;
  #lastRecordUnixMs: number | null = null;
  readonly #views = new Set<PointView>();
  readonly #branches: OpenBranches;
  #changing: Promise<void> = Promise.resolve();
  #closed = false;
  readonly #room: Room;

  constructor(
    platform: StorePlatform,
    options: GroupStoreOptions,
    paths: GroupPaths,
    decisions: DecisionLog,
    decided: Decided,
  ) {
    this.#platform = platform;
    this.#options = options;
    this.#paths = paths;
    this.#decisions = decisions;
    this.#owner = decided.owner;
    this.#lineBegunUnixMs = decided.lineBegunUnixMs;
    this.#setAsideCount = decided.setAsideCount;
    this.#hasHistory = decided.line !== null || decided.setAsideCount > 0;
    this.seeds = new Seeds(platform.files, options.directory, decided.seeds);
    this.#room = new Room({
      clock: platform.clock,
      files: platform.files,
      log: options.log,
      path: options.directory,
      reserveBytes: options.reserveBytes,
      looked: () => {
        this.#keepReserve();
      },
    });
    this.#branches = new OpenBranches({
      platform,
      store: { group: options.group, hubId: options.hubId, log: options.log },
      segmentBytes: options.segmentBytes ?? SEGMENT_BYTES,
      directory: paths.branches,
      decisions,
      room: this.#room,
      openView: (at) => this.#openView(at),
    });
  }

  get state(): GroupState {
    return groupStateOf({
      group: this.#options.group,
      owner: this.#owner,
      main: this.#main,
      room: this.#room,
      progress: this.progress,
      setAsideWhy: this.setAsideWhy,
      lastRecordUnixMs: this.#lastRecordUnixMs,
      openViews: this.#views.size,
      branches: this.#branches.names,
      seeds: this.seeds.list,
    });
  }

  toHubGroup(): HubGroup | null {
    const main = this.#main;
    const owner = this.#owner;
    if (main === null || owner === null) return null;
    const { appended } = main;
    const durable = main.timeline.state.number;
    if (appended.number !== durable) {
      const message = `group ${this.#options.group} holds records up to ${appended.number}, durable are those up to ${durable}`;
      throw new StorageFault(this.progress.stalled ?? 'not-settled', message, { retryable: true });
    }
    return {
      owner: owner.agentId,
      ownerSession: owner.session,
      ownerNonce: owner.nonce,
      line: main.line,
      lastNumber: appended.number,
      lastChecksum: appended.checksum,
      lastTimeUs: appended.timeUs,
      spanOpen: appended.spanOpen,
      consistentNumber: main.timeline.state.consistentNumber,
      failedOver: false,
      volumes: appended.volumes().map(({ index, name, sizeBytes }) => ({ index, name, sizeBytes })),
      written: { journalBytes: main.writer.position, begunUnixMs: this.#lineBegunUnixMs, writer: owner },
    };
  }

  async lookAtRoom(): Promise<void> {
    await this.#room.look();
  }

  dropLastGood(whenShort: 'now' | 'later'): void {
    const main = this.#main;
    const { group } = this.#options;
    if (main === null || this.progress.consistentNumber === null)
      throw new ConfigFault('no-consistent-point', `group ${group} has no good point that could be given up`);
    if (whenShort === 'now' && !main.isShortOfRoom)
      throw new ConfigFault('nothing-short', `no resync of group ${group} lacks room: the last good point is kept`);
    main.allowDropLastGood();
  }

  async settled(): Promise<void> {
    await this.#main?.writer.settled();
  }

  async setOwner(owner: Owner): Promise<void> {
    const now = this.#owner;
    if (now?.agentId === owner.agentId && now.session === owner.session && now.nonce === owner.nonce) return;
    await this.#decisions.append({ kind: 'owner', ...owner }, this.#platform.clock.unixMs());
    this.#owner = owner;
  }

  seed(volume: string, path: string): Promise<Seed> {
    const seeded = this.#changing.then(async () => {
      if (this.#hasHistory) {
        const said = `group ${this.#options.group} has a history: only a group that no agent has begun can be seeded`;
        throw new ConfigFault('has-history', said);
      }
      return await this.seeds.add(volume, path, (sizeBytes) =>
        this.#decisions.append({ kind: 'seeded', volume, sizeBytes }, this.#platform.clock.unixMs()),
      );
    });
    this.#changing = seeded.then(
      () => undefined,
      () => undefined,
    );
    return seeded;
  }

  stopSeeding(): void {
    this.seeds.stop();
  }

  beginLine(line: Line): Promise<void> {
    const begun = this.#changing.then(() => this.#beginLine(line));
    this.#changing = begun.catch(() => undefined);
    return begun;
  }

  append(header: FrameHeader, raw: readonly Buffer[]): void {
    const main = this.#main;
    if (main === null)
      throw new ProtocolFault(
        'record-line',
        `group ${this.#options.group} has no line that record ${header.number} could belong to`,
      );
    main.append(header, raw);
    this.progress.lastNumber = header.number;
    this.#lastRecordUnixMs = this.#platform.clock.unixMs();
  }

  async hashRegion(request: HashRegion, signal: AbortSignal): Promise<RegionHashes> {
    if (this.#main === null) throw new ProtocolFault('record-line', `group ${this.#options.group} has no line`);
    return await this.#main.hashRegion(request, signal);
  }

  openView(options: ViewOptions = {}): Promise<View> {
    // Nothing here waits today; a point in the past will have to be looked for.
    return new Promise((resolve) => {
      resolve(this.#openView(options));
    });
  }

  async openBranch(name: string, options: BranchOptions): Promise<Branch> {
    return await this.#branches.open(name, options);
  }

  branch(name: string): Branch | null {
    return this.#branches.get(name);
  }

  async drain(): Promise<void> {
    const main = this.#main;
    if (main === null) return;
    await main.writer.settled();
    await main.applier.drain();
  }

  async close(options: { readonly drain: boolean }): Promise<void> {
    await this.#changing;
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#closeMain('the group is being closed', options.drain);
    } finally {
      await this.#decisions.close();
    }
  }

  /** Opens the main line; what cannot be believed is put aside, and the group begins anew. */
  async openLine(line: Line): Promise<void> {
    const { clock, files } = this.#platform;
    const { log, group } = this.#options;
    try {
      await keepOldBaseAside(files, this.#paths, line);
      await this.seeds.handTo(`${this.#paths.lines}/${line.id}`);
      this.#main = await this.#openLine(line);
      this.#progressed();
      this.progress.lastNumber = this.#main.appended.number;
    } catch (error) {
      if (!(error instanceof CorruptionFault)) throw error;
      const why = asError(error).message;
      log.error('line-set-aside', { group, line: line.id, code: error.code, message: why });
      this.#setAsideCount += 1;
      const directory = `${line.id}.damaged-${this.#setAsideCount}`;
      await this.#decisions.append({ kind: 'set-aside', line, directory, why }, clock.unixMs());
      await finishSetAside(files, this.#paths, line, directory);
      this.setAsideWhy = why;
      this.seeds.forget();
    }
  }

  async #openLine(line: Line): Promise<LineStore> {
    const { retentionMs, indexBytes, journalMaxBytes } = this.#options;
    return await LineStore.open({
      platform: this.#platform,
      codecs: this.#platform.codecs ?? [],
      directory: `${this.#paths.lines}/${line.id}`,
      baseDirectory: this.#paths.base,
      group: this.#options.group,
      hubId: this.#options.hubId,
      line,
      limits: { retentionMs, indexBytes, journalMaxBytes: journalMaxBytes ?? Infinity },
      segmentBytes: this.#options.segmentBytes ?? SEGMENT_BYTES,
      queueBytes: this.#options.queueBytes ?? QUEUE_BYTES,
      room: this.#room,
      log: this.#options.log,
      events: {
        progressed: () => {
          this.#progressed();
          this.listener?.progressed(this.progress.receivedNumber, this.progress.durableNumber);
        },
        congested: (now) => {
          this.progress.congested = now;
          this.listener?.congested(now);
        },
        full: (now) => {
          this.#stall(now ? 'disk-full' : null);
          if (now) this.#branches.endForRoom('the disk is full');
        },
        failed: (fault) => {
          this.#failed(fault);
        },
      },
    });
  }

  async #beginLine(line: Line): Promise<void> {
    if (this.#main?.line.id === line.id) return;
    await this.#closeMain('another line of history begins', false);
    // The decision first: everything after it is finished by the next start, should this one be cut short.
    this.#lineBegunUnixMs = this.#platform.clock.unixMs();
    await this.#decisions.append({ kind: 'line-begun', line }, this.#lineBegunUnixMs);
    if (this.#hasHistory) this.seeds.forget();
    this.#hasHistory = true;
    await keepOldBaseAside(this.#platform.files, this.#paths, line);
    await this.seeds.handTo(`${this.#paths.lines}/${line.id}`);
    this.#main = await this.#openLine(line);
    this.progress.lastNumber = this.#main.appended.number;
    this.#progressed();
  }

  async #closeMain(why: string, drain: boolean): Promise<void> {
    const main = this.#main;
    await this.#branches.dropAll();
    for (const view of [...this.#views]) {
      view.expire(why);
      await view.close();
    }
    if (main === null) return;
    try {
      if (drain) await this.drain();
    } finally {
      this.#main = null;
      await main.close();
    }
  }

  #openView(options: ViewOptions): PointView {
    const main = this.#main;
    const { at } = options;
    const consistent = main?.timeline.state.consistentNumber ?? null;
    if (main === null || consistent === null || this.#closed) {
      throw new ConfigFault('no-consistent-point', `group ${this.#options.group} has no consistent point yet`);
    }
    if (at !== undefined && at !== consistent) {
      throw new ConfigFault(
        'unknown-point',
        `number ${at} of group ${this.#options.group} cannot be opened; the newest is ${consistent}`,
      );
    }
    const { timeline, journal, base, applier } = main;
    let opened: PointView | null = null;
    const pin = timeline.pinLatest((why) => opened?.expire(why));
    if (pin === null)
      throw new ConfigFault('no-consistent-point', `group ${this.#options.group} has no consistent point yet`);
    const view = new PointView({
      line: main.line.id,
      number: pin.number,
      timeUs: pin.timeUs,
      volumes: pin.volumes,
      content: new PointContent(timeline, journal, base, pin.number),
      log: this.#options.log,
      release: () => {
        timeline.unpin(pin);
        this.#views.delete(view);
        applier.poke();
      },
    });
    opened = view;
    this.#views.add(view);
    return view;
  }

  /** Room was looked at. Less than the reserve: what is only a test ends before protection is touched, then history gives way. */
  #keepReserve(): void {
    if (this.#room.isLow) this.#branches.endForRoom(`room runs low: ${this.#room.said}`);
    this.#main?.lookedAtRoom();
  }

  #progressed(): void {
    const main = this.#main;
    if (main === null) return;
    const { progress } = this;
    progress.receivedNumber = main.writer.writtenNumber;
    progress.durableNumber = main.timeline.state.number;
    progress.consistentNumber = main.timeline.state.consistentNumber;
    if (progress.consistentNumber !== null) this.setAsideWhy = null;
  }

  #stall(reason: StallReason | null): void {
    if (this.progress.stalled === 'journal-failed' || this.progress.stalled === reason) return;
    this.progress.stalled = reason;
    this.#options.log.warn('journal-stalled', { group: this.#options.group, reason });
    this.listener?.stalled(reason);
  }

  #failed(fault: Fault): void {
    this.#options.log.error('storage-failed', { group: this.#options.group, code: fault.code, message: fault.message });
    if (fault.code === 'journal-failed') this.#stall('journal-failed');
    this.listener?.failed(fault);
  }
}
