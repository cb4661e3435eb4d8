/**
 * Backups of a part of the simulated disk: what was stored there at one moment, to be put back later.
 *
 * Always holds: a snapshot never changes, and may be restored any number of times, on other disks too.
 */
import type { Content } from './content.js';
import type { Node, Place, Tree } from './tree.js';

interface SavedFile {
  readonly kind: 'file';
  readonly content: Content;
  readonly changedUnixMs: number;
}

interface SavedDirectory {
  readonly kind: 'directory';
  readonly names: ReadonlyMap<string, Saved>;
}

type Saved = SavedFile | SavedDirectory;

/** Opaque to tests. */
export class SimSnapshot {
  /** Null: there was nothing of that name. */
  readonly saved: Saved | null;

  constructor(saved: Saved | null) {
    this.saved = saved;
  }
}

/** What is on the disk at the node: names and content that were synced, no more. */
export function takeSnapshot(node: Node | null): SimSnapshot {
  return new SimSnapshot(node === null ? null : save(node));
}

function save(node: Node): Saved {
  if (node.kind === 'file') {
    return { kind: 'file', content: node.stored.clone(), changedUnixMs: node.changedUnixMs };
  }
  return { kind: 'directory', names: new Map([...node.stored].map(([name, child]) => [name, save(child)])) };
}

/** Puts it at `place`, durably, instead of all that is there. Files open there go on with what is gone. */
export function restoreSnapshot(tree: Tree, place: Place, snapshot: SimSnapshot): void {
  clear(tree, place);
  if (snapshot.saved !== null) put(tree, place, snapshot.saved);
}

function clear(tree: Tree, place: Place): void {
  const there = place.directory.seen.get(place.name);
  if (there?.kind === 'directory') {
    for (const name of [...there.seen.keys()]) clear(tree, { directory: there, name });
  }
  tree.replaceStored(place, null);
}

function put(tree: Tree, place: Place, saved: Saved): void {
  if (saved.kind === 'file') {
    const file = tree.newFile(saved.content.clone());
    file.changedUnixMs = saved.changedUnixMs;
    tree.replaceStored(place, file);
    return;
  }
  const directory = tree.newDirectory();
  tree.replaceStored(place, directory);
  for (const [name, child] of saved.names) put(tree, { directory, name }, child);
}
