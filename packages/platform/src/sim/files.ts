/**
 * A simulated disk for crash tests: the FileSystem interface over memory, with a page cache that a power
 * cut loses, names that need their directory synced, faults on demand.
 *
 * Always holds: nothing survives `crash` but what was synced and what the seed lets survive besides; after
 * the crash every call on the old disk, and on files open on it, throws SimulatedCrash.
 * Must not know: what is stored in the files.
 */
import type { Clock } from '../clock.js';
import { StorageFault } from '../errors.js';
import {
  type FileLock,
  type FileStatus,
  type FileSystem,
  type NoClaim,
  type OpenFile,
  type OpenMode,
} from '../files.js';
import type { Change, Content } from './content.js';
import { FaultRules, type FaultRule, type InjectedFault, injectedFault, type SimOperation } from './fault-rules.js';
import { HeldLocks } from './held-locks.js';
import { Gate } from './gate.js';
import { type OpenFileDisk, SimOpenFile } from './open-file.js';
import { SeededRandomness } from './randomness.js';
import { restoreSnapshot, type SimSnapshot, takeSnapshot } from './snapshot.js';
import type { CrashFate } from './survival.js';
import { type DirectoryNode, FileNode, type Node, partsOf, Tree } from './tree.js';

/** Thrown by every operation from the moment of the simulated crash on. Not a Fault: nobody may handle it. */
export class SimulatedCrash extends Error {
  constructor() {
    super('simulated crash');
    this.name = 'SimulatedCrash';
  }
}

export interface SimFilesOptions {
  /** Where the time comes from when operations take time, and for `changedUnixMs`. */
  readonly clock?: Clock;
  /** How long an operation takes; needs `clock`. None when left out. */
  readonly delayMs?: (operation: SimOperation) => number;
  /** The part of the operations that take effect at the end of their time, drawn from `seed`; the others do at once. None when left out. */
  readonly lateChance?: number;
  /** Room on the disk; 1 TiB when left out. */
  readonly capacityBytes?: number;
  /** Decides which operations a fault with a `chance` strikes; 1 when left out. */
  readonly seed?: number;
}

export interface CrashOptions {
  /** Decides every fate; print it when a test fails. */
  readonly seed: number;
  /** What becomes of what was not synced, of each path where it is a function; `mixed` when left out. */
  readonly fate?: CrashFate | ((path: string) => CrashFate);
}

function treeAfter(tree: Tree, { seed, fate = 'mixed' }: CrashOptions): Tree {
  return tree.afterCrash(typeof fate === 'function' ? fate : () => fate, new SeededRandomness(seed));
}

const UNLIMITED_BYTES = 2 ** 40;

export class SimFiles implements FileSystem, OpenFileDisk {
  readonly #options: SimFilesOptions;
  readonly #tree: Tree;
  readonly #rules: FaultRules;
  readonly #locks = new HeldLocks();
  readonly #gate = new Gate();
  readonly #lateness: SeededRandomness;
  /** How often a process was killed while its operations were under way. */
  #abandoned = 0;
  #capacityBytes: number | null;
  #changes = 0;
  #order = 0;
  #crashAtChange = Infinity;
  #crashed = false;
  #powerCuts = 0;
  /** Called in the moment in which `crashAt` strikes, before the operation's caller hears of it. */
  onCrash: (() => void) | null = null;

  constructor(options: SimFilesOptions = {}, tree: Tree = new Tree()) {
    this.#options = options;
    this.#tree = tree;
    this.#rules = new FaultRules(new SeededRandomness(options.seed ?? 1));
    this.#lateness = new SeededRandomness((options.seed ?? 1) + 1);
    this.#capacityBytes = options.capacityBytes ?? null;
  }

  /** Operations so far that changed or synced something (reads do not count). */
  get changes(): number {
    return this.#changes;
  }

  /** Of the host that has this disk: another one after each loss of power. */
  get bootId(): string {
    return `00000000-0000-4000-8000-${String(this.#powerCuts).padStart(12, '0')}`;
  }

  get crashed(): boolean {
    return this.#crashed;
  }

  /** The `change`-th changing operation from the disk's beginning (1 = the first), and all after it, throw SimulatedCrash. */
  crashAt(change: number): void {
    this.#crashAtChange = change;
  }

  /** Makes matching operations fail. */
  inject(rule: FaultRule): InjectedFault {
    return this.#rules.inject(rule);
  }

  /** Power goes (or the process dies, with fate `keep`): the disk as it is found afterwards. This one is dead then. */
  crash(options: CrashOptions): SimFiles {
    this.#crashed = true;
    this.#gate.open();
    const tree = treeAfter(this.#tree, options);
    const after = new SimFiles(this.#options, tree);
    after.#capacityBytes = this.#capacityBytes;
    after.#powerCuts = this.#powerCuts + (options.fate === 'keep' ? 0 : 1);
    return after;
  }

  /** Whoever used the disk was killed: what has been begun and has had no effect yet never will. */
  abandon(): void {
    this.#abandoned += 1;
  }

  /** What a crash now would leave, on a disk of its own, that takes no time unless `disk` says so; this one goes on. */
  imagineCrash(options: CrashOptions, disk: SimFilesOptions = {}): SimFiles {
    const tree = treeAfter(this.#tree, options);
    const after = new SimFiles(disk, tree);
    after.#powerCuts = this.#powerCuts + (options.fate === 'keep' ? 0 : 1);
    return after;
  }

  /** What programs see of a file, without an operation of the disk, and not to be changed; null without the file. */
  seen(path: string): Content | null {
    const node = this.#tree.find(path);
    return node?.kind === 'file' ? node.seen : null;
  }

  /** The files below a directory, as programs see them, without an operation of the disk. */
  pathsBelow(directory: string): string[] {
    const node = this.#tree.find(directory);
    return node?.kind === 'directory' ? [...seenBelow(node, directory)] : [];
  }

  /** The same, read at once; how many bytes there were, 0 without the file. */
  look(path: string, buffer: Uint8Array, position: number): number {
    return this.seen(path)?.read(buffer, position) ?? 0;
  }

  /** The room on the disk from now on; may be less than what is used. */
  setCapacity(capacityBytes: number): void {
    this.#capacityBytes = capacityBytes;
  }

  /** Room taken by all files that have a name. */
  get usedBytes(): number {
    return this.#tree.usedBytes;
  }

  /** The disk answers nothing any more: operations hang, those under way too, until `resume`. */
  pause(): void {
    this.#gate.shut();
  }

  resume(): void {
    this.#gate.open();
  }

  /** How long a file is on the disk itself; 0 without the file. */
  storedBytes(path: string): number {
    const node = this.#tree.find(path);
    return node?.kind === 'file' ? node.stored.sizeBytes : 0;
  }

  /** Turns one bit of what is stored, and what readers get once it must be read from the disk again. Throws where there is no such byte. */
  rot(path: string, offset: number, bit: number): void {
    const node = this.#tree.find(path);
    if (node?.kind !== 'file') throw notFound('spoil', path);
    if (!node.stored.flipBit(offset, bit)) throw new StorageFault('not-found', `${path} has no stored byte ${offset}`);
    this.#tree.evict(node);
  }

  /** Somebody makes a file larger, for good; readers find zeroes there. Throws where there is no such file. */
  extend(path: string, sizeBytes: number): void {
    const node = this.#tree.find(path);
    if (node?.kind !== 'file') throw notFound('extend', path);
    node.seen.growTo(sizeBytes);
    node.stored.growTo(sizeBytes);
    node.changedUnixMs = this.#options.clock?.unixMs() ?? 0;
  }

  /** Memory runs short: clean pages leave the cache, of one file, of all below a directory, or of all. */
  evict(path = '/'): void {
    const node = this.#tree.find(path);
    if (node !== null) this.#tree.evict(node);
  }

  /** A backup of a file or directory: what is stored there now. */
  snapshot(path: string): SimSnapshot {
    return takeSnapshot(this.#tree.find(path));
  }

  /** Puts a backup back, durably, instead of all that is at `path`; its directory must exist. */
  restore(path: string, snapshot: SimSnapshot): void {
    restoreSnapshot(this.#tree, this.#tree.place(path), snapshot);
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    return await this.perform('open', path, mode === 'create' || mode === 'create-new', () => {
      let node = this.#tree.find(path);
      if (node !== null && mode === 'create-new')
        throw new StorageFault('exists', `cannot open ${path}: it exists already`);
      if (node === null) {
        if (mode === 'read' || mode === 'write') throw notFound('open', path);
        const { directory, name } = this.#tree.place(path);
        node = this.#tree.newFile();
        this.touch(node);
        this.#tree.setNames({ directory, name, node });
      }
      if (node.kind === 'directory') throw new StorageFault('is-a-directory', `cannot open ${path}: it is a directory`);
      return new SimOpenFile(this, node, path, mode !== 'read');
    });
  }

  async status(path: string): Promise<FileStatus | null> {
    return await this.perform('status', path, false, () => {
      const node = this.#tree.find(path);
      return node === null ? null : this.statusOf(node);
    });
  }

  async list(directory: string): Promise<string[]> {
    return await this.perform('list', directory, false, () => [...this.#tree.directory(directory).seen.keys()].sort());
  }

  async makeDirectory(path: string): Promise<void> {
    await this.perform('make-directory', path, true, () => {
      let directory = this.#tree.root;
      for (const name of partsOf(path)) {
        const there = directory.seen.get(name);
        if (there?.kind === 'file')
          throw new StorageFault('not-a-directory', `cannot make directory ${path}: ${name} is a file`);
        const next: DirectoryNode = there ?? this.#tree.newDirectory();
        if (there === undefined) {
          this.#tree.setNames({ directory, name, node: next });
          this.#tree.syncDirectory(directory);
        }
        directory = next;
      }
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.perform('rename', from, true, () => {
      const node = this.#tree.find(from);
      if (node === null) throw notFound('rename', from);
      const source = this.#tree.place(from);
      const target = this.#tree.place(to);
      const replaced = target.directory.seen.get(target.name);
      if (replaced === node) return;
      if (replaced?.kind === 'directory' && (node.kind === 'file' || replaced.seen.size > 0)) {
        throw new StorageFault(node.kind === 'file' ? 'is-a-directory' : 'not-empty', `cannot rename ${from} to ${to}`);
      }
      this.#tree.setNames({ ...source, node: null }, { ...target, node });
    });
  }

  async remove(path: string): Promise<void> {
    await this.perform('remove', path, true, () => {
      const node = this.#tree.find(path);
      if (node === null) return;
      if (node.kind === 'directory')
        throw new StorageFault('is-a-directory', `cannot remove ${path}: it is a directory`);
      this.#tree.setNames({ ...this.#tree.place(path), node: null });
    });
  }

  async removeTree(path: string): Promise<void> {
    await this.perform('remove', path, true, () => {
      const node = this.#tree.find(path);
      if (node === null) return;
      const empty = (directory: DirectoryNode): void => {
        for (const [name, child] of [...directory.seen]) {
          if (child.kind === 'directory') empty(child);
          this.#tree.setNames({ directory, name, node: null });
        }
      };
      if (node.kind === 'directory') empty(node);
      this.#tree.setNames({ ...this.#tree.place(path), node: null });
    });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.perform(
      'sync-directory',
      path,
      true,
      (struck) => {
        if (struck !== null) {
          // It could not be opened for that; any other failure is one of the sync.
          const isOfOpening = struck.fault === 'too-many-files' || struck.fault === 'no-permission';
          const fault = injectedFault(struck.fault, 'sync-directory', path);
          throw isOfOpening ? fault : new StorageFault('sync-failed', fault.message);
        }
        return this.#tree.directory(path);
      },
      (directory) => this.#tree.syncDirectory(directory),
      true,
    );
  }

  async lock(path: string): Promise<FileLock | null> {
    return await this.perform('lock', path, false, () => {
      const key = partsOf(path).join('/');
      if (this.#locks.isHeld(key)) return null;
      const { directory, name } = this.#tree.place(path);
      if (!directory.seen.has(name)) this.#tree.setNames({ directory, name, node: this.#tree.newFile() });
      return this.#locks.take(key);
    });
  }

  async claim(path: string): Promise<FileLock | NoClaim> {
    return await this.perform('lock', path, false, () => {
      if (this.#tree.find(path) === null) throw notFound('lock', path);
      // Beside the lock of that name, which is of another kind.
      const key = `claim ${partsOf(path).join('/')}`;
      return this.#locks.isHeld(key) ? 'in-use' : this.#locks.take(key);
    });
  }

  async room(path: string): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return await this.perform('room', path, false, () => {
      if (this.#tree.find(path) === null) throw notFound('ask for room at', path);
      return { freeBytes: this.freeBytes(), totalBytes: this.#totalBytes };
    });
  }

  // For open files (OpenFileDisk) ------------------------------------------------------------------

  async perform<T>(
    operation: SimOperation,
    path: string,
    changes: boolean,
    start: (struck: FaultRule | null) => T,
    finish?: (started: T) => void,
    strikesItself = false,
  ): Promise<T> {
    if (this.#gate.isShut) await this.#gate.opened();
    this.#assertAlive();
    const isLate = this.#lateness.chance(this.#options.lateChance ?? 0);
    if (isLate) await this.#beLate(operation);
    if (changes) this.#countChange();
    const struck = this.#rules.strike(operation, path);
    if (struck !== null && !strikesItself) throw injectedFault(struck.fault, operation, path);
    const started = start(struck);
    if (!isLate) await this.#passTime(operation);
    if (this.#gate.isShut) await this.#gate.opened();
    this.#assertAlive();
    finish?.(started);
    return started;
  }

  async #beLate(operation: SimOperation): Promise<void> {
    const abandoned = this.#abandoned;
    await this.#passTime(operation);
    if (this.#gate.isShut) await this.#gate.opened();
    this.#assertAlive();
    if (this.#abandoned !== abandoned) throw new SimulatedCrash();
  }

  nextOrder(): number {
    this.#order += 1;
    return this.#order;
  }

  get isLimited(): boolean {
    return this.#capacityBytes !== null;
  }

  freeBytes(): number {
    return Math.max(0, this.#totalBytes - this.#tree.usedBytes);
  }

  change(node: FileNode, change: Change): void {
    this.touch(node);
    this.#tree.change(node, this.nextOrder(), change);
  }

  touch(node: FileNode): void {
    node.changedUnixMs = this.#options.clock?.unixMs() ?? 0;
  }

  statusOf(node: Node): FileStatus {
    const isFile = node instanceof FileNode;
    return {
      kind: node.kind,
      sizeBytes: isFile ? node.seen.sizeBytes : 0,
      allocatedBytes: isFile ? node.seen.allocatedBytes : 0,
      identity: `sim:${node.number}`,
      changedUnixMs: isFile ? node.changedUnixMs : 0,
    };
  }

  get #totalBytes(): number {
    return this.#capacityBytes ?? UNLIMITED_BYTES;
  }

  #countChange(): void {
    this.#changes += 1;
    if (this.#changes < this.#crashAtChange) return;
    this.#crashed = true;
    this.onCrash?.();
    throw new SimulatedCrash();
  }

  #assertAlive(): void {
    if (this.#crashed) throw new SimulatedCrash();
  }

  async #passTime(operation: SimOperation): Promise<void> {
    const { clock, delayMs } = this.#options;
    if (clock === undefined || delayMs === undefined) return;
    await new Promise<void>((resolve) => {
      clock.after(delayMs(operation), resolve);
    });
  }
}

function* seenBelow(directory: DirectoryNode, path: string): Iterable<string> {
  for (const [name, node] of directory.seen) {
    if (node.kind === 'directory') yield* seenBelow(node, `${path}/${name}`);
    else yield `${path}/${name}`;
  }
}

function notFound(action: string, path: string): StorageFault {
  return new StorageFault('not-found', `cannot ${action} ${path}: no such file or directory`);
}
