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
  /** What readers see. */
  readonly seen: Content;
  /** What is on the disk. */
  readonly stored: Content;
  /** What is seen and not on the disk, in order. */
  unsynced: { readonly order: number; readonly change: Change }[] = [];
  /** How often writing back has failed; every open file must hear of it once. */
  syncFailures = 0;
  changedUnixMs = 0;

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
    this.unsynced = this.unsynced.filter((entry) => {
      if (entry.order > order) return true;
      this.stored.apply(entry.change);
      return false;
    });
  }

  /** Writing back failed: the kernel takes the pages for clean, so they never reach the disk. */
  failSync(order: number): void {
    this.unsynced = this.unsynced.filter((entry) => entry.order > order);
    this.syncFailures += 1;
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

  newFile(): FileNode {
    this.#made += 1;
    return new FileNode(this.#made);
  }

  newDirectory(): DirectoryNode {
    this.#made += 1;
    return new DirectoryNode(this.#made);
  }

  /** Changes names, all or none of them after a crash. */
  setNames(...sets: NameSet[]): void {
    for (const set of sets) place(set.directory.seen, set);
    this.#unsynced.push(sets);
  }

  /** Puts the directory's names on the disk. A rename from elsewhere is then half there until its other side is synced. */
  syncDirectory(directory: DirectoryNode): void {
    this.#unsynced = this.#unsynced
      .map((sets) =>
        sets.filter((set) => {
          if (set.directory !== directory) return true;
          place(directory.stored, set);
          return false;
        }),
      )
      .filter((sets) => sets.length > 0);
  }

  /** Room taken by all files that have a name. */
  usedBytes(): number {
    let bytes = 0;
    const walk = (directory: DirectoryNode): void => {
      for (const node of directory.seen.values()) {
        if (node.kind === 'directory') walk(node);
        else bytes += node.seen.allocatedBytes;
      }
    };
    walk(this.root);
    return bytes;
  }

  /** The disk as it is found after a power cut. */
  afterCrash(crashFate: CrashFate, randomness: SeededRandomness): Tree {
    const names = new Map<DirectoryNode, Map<string, Node>>();
    const namesOf = (directory: DirectoryNode): Map<string, Node> => {
      let map = names.get(directory);
      if (map === undefined) names.set(directory, (map = new Map(directory.stored)));
      return map;
    };
    for (const sets of this.#unsynced) {
      if (!nameSurvives(crashFate, randomness)) continue;
      for (const set of sets) place(namesOf(set.directory), set);
    }

    const tree = new Tree();
    tree.#made = this.#made;
    const rebuilt = new Map<Node, Node>();
    const rebuildFile = (node: FileNode): FileNode => {
      const content = node.stored.clone();
      for (const { change } of node.unsynced) survive(content, change, crashFate, randomness);
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
        to.seen.set(name, fresh);
        to.stored.set(name, fresh);
      }
    };
    rebuild(this.root, tree.root);
    return tree;
  }
}

function place(map: Map<string, Node>, set: NameSet): void {
  if (set.node === null) map.delete(set.name);
  else map.set(set.name, set.node);
}

/** The names in a path; `.` and empty ones left out. */
export function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
