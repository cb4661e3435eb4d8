/**
 * Names and files of the simulated disk: what a program sees now beside what is on the disk.
 *
 * Always holds: a name is on the disk only once its directory has been synced; content is on the disk only
 * once its file has been synced; `afterCrash` builds a new tree and leaves the old one alone.
 */
import { StorageFault } from '../errors.js';
import { type Change, Content } from './content.js';
import type { SeededRandomness } from './randomness.js';
import { type CrashFate, nameSurvives, survive } from './survival.js';

export class FileNode {
  readonly kind = 'file';
  readonly number: number;
  /** What readers see: the page cache. */
  seen: Content;
  /** What is on the disk. */
  readonly stored: Content;
  /** What is seen and not on the disk, in order. */
  unsynced: { readonly order: number; readonly change: Change }[] = [];
  /** How often writing back has failed; every open file must hear of it once. */
  syncFailures = 0;
  changedUnixMs = 0;
  /** Names that it has. */
  links = 0;
  /** Readers see what a failed sync did not store. */
  #hasLost = false;

  constructor(number: number, stored: Content = new Content()) {
    this.number = number;
    this.stored = stored;
    this.seen = stored.clone();
  }

  change(order: number, change: Change): void {
    this.seen.apply(change);
    this.unsynced.push({ order, change });
  }

  /** Puts what was changed up to `order` on the disk. */
  syncUpTo(order: number): void {
    const synced: Change[] = [];
    const rest = this.unsynced.filter((entry) => {
      if (entry.order <= order) synced.push(entry.change);
      return entry.order > order;
    });
    this.unsynced = rest;
    if (rest.length === 0 && !this.#hasLost) this.stored.adopt(synced, this.seen);
    else for (const change of synced) this.stored.apply(change);
  }

  /** Writing back failed: the kernel takes the pages for clean, so they never reach the disk. */
  failSync(order: number): void {
    this.unsynced = this.unsynced.filter((entry) => entry.order > order);
    this.syncFailures += 1;
    this.#hasLost = true;
  }

  /** The kernel drops its clean pages: readers get from the disk what is not waiting to be written. */
  evict(): void {
    this.seen = this.stored.clone();
    for (const { change } of this.unsynced) this.seen.apply(change);
    this.#hasLost = false;
  }
}

export class DirectoryNode {
  readonly kind = 'directory';
  readonly number: number;
  readonly seen = new Map<string, Node>();
  readonly stored = new Map<string, Node>();

  constructor(number: number) {
    this.number = number;
  }
}

export type Node = FileNode | DirectoryNode;

/** A name gets a file, or loses it (null). */
interface NameSet {
  readonly directory: DirectoryNode;
  readonly name: string;
  readonly node: Node | null;
}

export interface Place {
  readonly directory: DirectoryNode;
  readonly name: string;
}

export class Tree {
  readonly root: DirectoryNode;
  #made: number;
  /** Changes of names that are not on the disk; the sets of one change survive together. */
  #unsynced: NameSet[][] = [];
  #usedBytes = 0;

  constructor() {
    this.root = new DirectoryNode(1);
    this.#made = 1;
  }

  /** The node of that path, or null. */
  find(path: string): Node | null {
    let node: Node | undefined = this.root;
    for (const name of partsOf(path)) {
      if (node?.kind !== 'directory') return null;
      node = node.seen.get(name);
    }
    return node ?? null;
  }

  directory(path: string): DirectoryNode {
    const node = this.find(path);
    if (node === null) throw new StorageFault('not-found', `${path}: no such directory`);
    if (node.kind !== 'directory') throw new StorageFault('not-a-directory', `${path} is not a directory`);
    return node;
  }

  /** The directory that holds the path's last name; throws when it is missing. */
  place(path: string): Place {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw new StorageFault('is-a-directory', `${path} is the root directory`);
    return { directory: this.directory(parts.join('/')), name };
  }

  newFile(stored?: Content): FileNode {
    this.#made += 1;
    return new FileNode(this.#made, stored);
  }

  newDirectory(): DirectoryNode {
    this.#made += 1;
    return new DirectoryNode(this.#made);
  }

  /** Changes names, all or none of them after a crash. */
  setNames(...sets: NameSet[]): void {
    for (const set of sets) this.#place(set);
    this.#unsynced.push(sets);
  }

  /** A change of a file's content, seen at once. */
  change(node: FileNode, order: number, change: Change): void {
    this.#recount(node, () => node.change(order, change));
  }

  /** Drops clean pages of the cache: of one file, or of all below a directory. */
  evict(node: Node): void {
    for (const file of filesBelow(node)) this.#recount(file, () => file.evict());
  }

  /** Puts a node where it is seen and stored at once, instead of what was there; null takes that away. A directory comes without names. */
  replaceStored(place: Place, node: Node | null): void {
    const { directory, name } = place;
    this.#unsynced = this.#unsynced
      .map((sets) => sets.filter((set) => set.directory !== directory || set.name !== name))
      .filter((sets) => sets.length > 0);
    this.#place({ ...place, node });
    if (node === null) directory.stored.delete(name);
    else directory.stored.set(name, node);
  }

  /**
   * Puts the directory's names on the disk. A file's rename from elsewhere is then half there until its other side is synced;
   * a directory never has two names, for file systems move one in a single transaction.
   */
  syncDirectory(directory: DirectoryNode): void {
    const moved = this.#unsynced.flatMap((sets, order) => {
      const isMove =
        sets.some(({ node }) => node?.kind === 'directory') && sets.some((set) => set.directory === directory);
      return isMove ? sets.map((set) => ({ set, order })) : [];
    });
    const isWithMove = (one: NameSet, at: number): boolean =>
      moved.some(({ set, order }) => at <= order && one.directory === set.directory && one.name === set.name);
    this.#unsynced = this.#unsynced
      .map((sets, order) =>
        sets.filter((set) => {
          if (set.directory !== directory && !isWithMove(set, order)) return true;
          place(set.directory.stored, set);
          return false;
        }),
      )
      .filter((sets) => sets.length > 0);
  }

  /** Room taken by all files that have a name. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The disk as it is found after a power cut; `fateOf` is asked for each path, its directories' included. */
  afterCrash(fateOf: (path: string) => CrashFate, randomness: SeededRandomness): Tree {
    const paths = pathsBelow(this.root);
    const names = new Map<DirectoryNode, Map<string, Node>>();
    const namesOf = (directory: DirectoryNode): Map<string, Node> => {
      let map = names.get(directory);
      if (map === undefined) names.set(directory, (map = new Map(directory.stored)));
      return map;
    };
    for (const sets of this.#unsynced) {
      const [first] = sets;
      if (first === undefined) continue;
      if (!nameSurvives(fateOf(`${paths.get(first.directory) ?? ''}/${first.name}`), randomness)) continue;
      for (const set of sets) place(namesOf(set.directory), set);
    }

    const tree = new Tree();
    tree.#made = this.#made;
    const rebuilt = new Map<Node, Node>();
    const rebuildFile = (node: FileNode): FileNode => {
      const content = node.stored.clone();
      const fate = fateOf(paths.get(node) ?? '/');
      for (const { change } of node.unsynced) survive(content, change, fate, randomness);
      const file = new FileNode(node.number, content);
      file.changedUnixMs = node.changedUnixMs;
      return file;
    };
    const rebuild = (from: DirectoryNode, to: DirectoryNode): void => {
      for (const [name, node] of namesOf(from)) {
        let fresh = rebuilt.get(node);
        if (fresh === undefined) {
          fresh = node.kind === 'file' ? rebuildFile(node) : new DirectoryNode(node.number);
          rebuilt.set(node, fresh);
          if (node.kind === 'directory' && fresh.kind === 'directory') rebuild(node, fresh);
        }
        tree.replaceStored({ directory: to, name }, fresh);
      }
    };
    rebuild(this.root, tree.root);
    return tree;
  }

  #place(set: NameSet): void {
    const before = set.directory.seen.get(set.name);
    place(set.directory.seen, set);
    if (set.node?.kind === 'file') this.#link(set.node, 1);
    if (before?.kind === 'file') this.#link(before, -1);
  }

  #link(file: FileNode, by: 1 | -1): void {
    if (by === 1 && file.links === 0) this.#usedBytes += file.seen.allocatedBytes;
    file.links += by;
    if (by === -1 && file.links === 0) this.#usedBytes -= file.seen.allocatedBytes;
  }

  #recount(file: FileNode, change: () => void): void {
    const before = file.seen.allocatedBytes;
    change();
    if (file.links > 0) this.#usedBytes += file.seen.allocatedBytes - before;
  }
}

/** Where each node is seen, or, when it is not seen any more, stored. */
function pathsBelow(root: DirectoryNode): Map<Node, string> {
  const paths = new Map<Node, string>([[root, '']]);
  const walk = (directory: DirectoryNode, path: string): void => {
    for (const names of [directory.seen, directory.stored]) {
      for (const [name, node] of names) {
        if (paths.has(node)) continue;
        paths.set(node, `${path}/${name}`);
        if (node.kind === 'directory') walk(node, `${path}/${name}`);
      }
    }
  };
  walk(root, '');
  return paths;
}

function* filesBelow(node: Node): Iterable<FileNode> {
  if (node.kind === 'file') yield node;
  else for (const child of node.seen.values()) yield* filesBelow(child);
}

function place(map: Map<string, Node>, set: NameSet): void {
  if (set.node === null) map.delete(set.name);
  else map.set(set.name, set.node);
}

/** The names in a path; `.` and empty ones left out. */
export function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
