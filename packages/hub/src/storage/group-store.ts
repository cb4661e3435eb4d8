/**
 * One group's storage: its owner, its main line, and what is open of it.
 *
 * Always holds: see store-types.ts, and the files that it ties together; `append` is refused while there is no line.
 * Must not know: sessions, sockets, HTTP, other groups.
 */
import { ConfigFault, type Fault, ProtocolFault, StorageFault } from '@rephub/platform';
import { type FrameHeader, type HashRegion, type HubGroup, type Line, type RegionHashes } from '@rephub/protocol';
import { BranchRemovals } from './branch-removals.js';
import { DecisionLog } from './decisions.js';
import { type Decided, groupPaths, type GroupPaths, holdsContent, readDecisions, syncNames } from './group-lines.js';
import { groupStateOf, type Progress } from './group-state.js';
import { type LineStore } from './line-store.js';
import { MainLine, SEGMENT_BYTES } from './main-line.js';
import { OpenBranches } from './open-branches.js';
import { OpenViews } from './open-views.js';
import { isJournalDamage, isWantOfRoom } from './passing-faults.js';
import { Room } from './room.js';
import type {
  Branch,
  BranchOptions,
  GroupState,
  GroupStore,
  GroupStoreListener,
  GroupStoreOptions,
  Owner,
  Seed,
  StallReason,
  StorePlatform,
  View,
  ViewOptions,
} from './store-types.js';
import { type PointView } from './views/view.js';

/** Opens, and recovers, one group's storage; makes it when it is missing. */
export async function openGroupStore(platform: StorePlatform, options: GroupStoreOptions): Promise<GroupStore> {
  const { files } = platform;
  const paths = groupPaths(options.directory);
  await files.makeDirectory(paths.group);
  const { log: decisions, decisions: stored } = await DecisionLog.open(files, paths.decisions, options.group);
  const { clock } = platform;
  const removals = new BranchRemovals({ clock, files, log: options.log, decisions, directory: paths.branches });
  try {
    const decided = readDecisions(stored);
    await syncNames(files, paths);
    await removals.adopt(decided.openBranches);
    const store = new OpenGroupStore(platform, options, { paths, decisions, decided, removals });
    // Decisions that are gone are no reason to take what is there for nothing.
    const holds = async (): Promise<boolean> => decided.owner !== null || (await holdsContent(files, paths.group));
    store.foundContent = await holds();
    await store.mainLine.open(!store.foundContent);
    // Some of it may have been a seed's that nothing was decided of.
    if (store.foundContent) store.foundContent = await holds();
    return store;
  } catch (error) {
    await removals.stop();
    await decisions.close();
    throw error;
  }
}

class OpenGroupStore implements GroupStore {
  listener: GroupStoreListener | null = null;
  /** Journal or images of an earlier run, or an owner. */
  foundContent = false;
  readonly progress: Progress = {
    lastNumber: 0,
    receivedNumber: 0,
    durableNumber: 0,
    consistentNumber: null,
    stalled: null,
    congested: false,
  };
  readonly mainLine: MainLine;
  readonly #platform: StorePlatform;
  readonly #options: GroupStoreOptions;
  readonly #decisions: DecisionLog;
  #owner: Owner | null;
  readonly #views: OpenViews;
  readonly #branches: OpenBranches;
  readonly #removals: BranchRemovals;
  #closed = false;
  readonly #room: Room;

  constructor(
    platform: StorePlatform,
    options: GroupStoreOptions,
    found: {
      readonly paths: GroupPaths;
      readonly decisions: DecisionLog;
      readonly decided: Decided;
      readonly removals: BranchRemovals;
    },
  ) {
    const { paths, decisions, decided, removals } = found;
    this.#platform = platform;
    this.#options = options;
    this.#decisions = decisions;
    this.#removals = removals;
    this.#owner = decided.owner;
    this.#views = new OpenViews(options.group, options.log);
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
      removals,
      room: this.#room,
      openView: (at) => this.#openView(at),
    });
    this.mainLine = new MainLine({
      platform,
      options,
      paths,
      decisions,
      decided,
      room: this.#room,
      events: {
        progressed: () => {
          this.#progressed();
          this.listener?.progressed(this.progress.receivedNumber, this.progress.durableNumber);
        },
        congested: (now) => {
          this.progress.congested = now;
          this.listener?.congested(now);
        },
        waits: (fault) => {
          const why = fault?.message ?? '';
          const isFull = isWantOfRoom(fault);
          this.#stall(fault === null ? null : isFull ? 'disk-full' : 'journal-waits', isFull ? 'disk-full' : why);
          if (isFull) this.#branches.endForRoom('the disk is full');
        },
        failed: (fault) => {
          this.#failed(fault);
        },
      },
      opened: (main) => {
        this.progress.lastNumber = main.appended.number;
        this.#progressed();
      },
      isOwned: () => this.#owner !== null,
      leaving: async (why) => {
        await this.#branches.dropAll();
        await this.#views.closeAll(why);
      },
    });
  }

  get #main(): LineStore | null {
    return this.mainLine.store;
  }

  get state(): GroupState {
    return groupStateOf({
      group: this.#options.group,
      owner: this.#owner,
      main: this.#main,
      room: this.#room,
      progress: this.progress,
      setAsideWhy: this.mainLine.setAsideWhy,
      openViews: this.#views.count,
      branches: this.#branches.names,
      leftBehind: this.#removals.leftBehind,
      seeds: this.mainLine.seeds,
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
      lastNumber: main.offeredNumber,
      lastChecksum: appended.checksum,
      lastTimeUs: appended.timeUs,
      spanOpen: appended.spanOpen,
      consistentNumber: main.timeline.state.consistentNumber,
      failedOver: false,
      volumes: appended.volumes().map(({ index, name, sizeBytes }) => ({ index, name, sizeBytes })),
      written: { journalBytes: main.writer.position, begunUnixMs: this.mainLine.begunUnixMs, writer: owner },
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
    main.allowDropLastGood(whenShort);
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
    return this.mainLine.seed(volume, path);
  }

  stopSeeding(): void {
    this.mainLine.stopSeeding();
  }

  beginLine(line: Line): Promise<void> {
    return this.mainLine.begin(line);
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
    await this.mainLine.drain();
  }

  get isTrusted(): boolean {
    return this.progress.stalled !== 'journal-failed' && !this.#decisions.hasFailed;
  }

  get isBlank(): boolean {
    // No record is taken before its agent is the owner.
    return !this.foundContent && this.#owner === null && this.mainLine.isUntouched;
  }

  async close({ drain, why = 'the group is being closed' }: Parameters<GroupStore['close']>[0]): Promise<void> {
    await this.mainLine.unchanging();
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.mainLine.close(why, drain);
    } finally {
      await this.#removals.stop();
      await this.#decisions.close();
    }
  }

  #openView(options: ViewOptions): PointView {
    const fault = this.#main?.applier.fault ?? null;
    if (fault !== null && isJournalDamage(fault.cause)) {
      const { group } = this.#options;
      throw new ConfigFault('journal-damaged', `no point of group ${group} can be opened now: ${fault.message}`);
    }
    return this.#views.open(this.#closed ? null : this.#main, options);
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
    progress.consistentNumber = main.timeline.lastGood;
    if (progress.consistentNumber !== null) this.mainLine.forgetSetAside();
  }

  #stall(reason: StallReason | null, why: string): void {
    if (this.progress.stalled === 'journal-failed' || this.progress.stalled === reason) return;
    this.progress.stalled = reason;
    const { group, log } = this.#options;
    if (reason === null) log.info('journal-goes-on', { group, message: 'the journal takes records again' });
    else log.warn('journal-stalled', { group, reason, message: `the journal takes no records: ${why}` });
    this.listener?.stalled(reason);
  }

  #failed(fault: Fault): void {
    this.#options.log.error('storage-failed', { group: this.#options.group, code: fault.code, message: fault.message });
    if (fault.code === 'journal-failed') this.#stall('journal-failed', 'journal-failed');
    this.listener?.failed(fault);
  }
}
