/**
 * Which line is the group's main line, and where the others are: the directory side of beginning a line and of putting
 * one aside. Each step can be cut short by a crash and is finished at the next start, for the decision comes first.
 *
 *   DATA/groups/GROUP/lines/LINE/…            a line's journal; `base` in it once the line is kept aside
 *   DATA/groups/GROUP/lines/LINE.damaged-N/…  a line whose base or journal could not be believed
 *   DATA/groups/GROUP/lines/LINE.earlier-N/…  a line that was kept aside, and then began anew
 *   DATA/groups/GROUP/base/…                  the main line's base images
 */
import type { FileSystem } from '@rephub/platform';
import type { Line } from '@rephub/protocol';
import { AppliedFile } from './base/applied-file.js';
import type { Decision, StoredDecision } from './decisions.js';

export interface GroupPaths {
  readonly group: string;
  readonly lines: string;
  readonly base: string;
  readonly branches: string;
  readonly decisions: string;
}

export function groupPaths(directory: string): GroupPaths {
  return {
    group: directory,
    lines: `${directory}/lines`,
    base: `${directory}/base`,
    branches: `${directory}/branches`,
    decisions: `${directory}/decisions.log`,
  };
}

/** What the decisions say of owner and main line. */
export interface Decided {
  readonly owner: { readonly agentId: string; readonly session: number; readonly nonce: string } | null;
  readonly line: Line | null;
  /** When it began here, by the hub's wall clock; null without a line. */
  readonly lineBegunUnixMs: number | null;
  /** The last line was put aside, and why; null once another has begun. */
  readonly setAside: (Decision & { kind: 'set-aside' }) | null;
  /** How many were put aside so far. */
  readonly setAsideCount: number;
  readonly openBranches: ReadonlySet<string>;
  /** Sizes of what was seeded, by volume: of the first line that an agent came to own, while that is its line. */
  readonly seeds: ReadonlyMap<string, number>;
}

export function readDecisions(decisions: readonly StoredDecision[]): Decided {
  let owner: Decided['owner'] = null;
  let line: Line | null = null;
  let lineBegunUnixMs: number | null = null;
  let setAside: Decided['setAside'] = null;
  let setAsideCount = 0;
  const openBranches = new Set<string>();
  const seeds = new Map<string, number>();
  let lines = 0;
  for (const { decision, unixMs } of decisions) {
    switch (decision.kind) {
      case 'owner':
        owner = { agentId: decision.agentId, session: decision.session, nonce: decision.nonce };
        break;
      case 'line-begun':
        ({ line } = decision);
        lineBegunUnixMs = unixMs;
        setAside = null;
        lines += 1;
        // Before there is an owner no record of a line is taken: they wait for the next one.
        if (lines > 1 && owner !== null) seeds.clear();
        break;
      case 'set-aside':
        line = null;
        lineBegunUnixMs = null;
        setAside = decision;
        setAsideCount += 1;
        seeds.clear();
        break;
      case 'seeded':
        seeds.set(decision.volume, decision.sizeBytes);
        break;
      case 'branch-opened':
        openBranches.add(decision.name);
        break;
      case 'branch-dropped':
        openBranches.delete(decision.name);
        break;
      case 'branch-line':
      case 'checkpoint':
      case 'checkpoint-deleted':
      case 'forgotten':
        break;
    }
  }
  return { owner, line, lineBegunUnixMs, setAside, setAsideCount, openBranches, seeds };
}

/** Directories and files that a killed process has moved are where they are found, also after a power cut. */
export async function syncNames(files: FileSystem, { group, lines, base }: GroupPaths): Promise<void> {
  await files.syncDirectory(group);
  for (const directory of [lines, base]) {
    if ((await files.status(directory)) !== null) await files.syncDirectory(directory);
  }
}

/** After `line-begun`: the base images of the line before, if any, are moved to it. */
export async function keepOldBaseAside(files: FileSystem, paths: GroupPaths, line: Line): Promise<void> {
  const opened = await AppliedFile.open(files, paths.base);
  if (opened === null) return;
  await opened.file.close();
  const old = opened.applied.line.id;
  if (old === line.id) return;
  await files.makeDirectory(`${paths.lines}/${old}`);
  await files.rename(paths.base, `${paths.lines}/${old}/base`);
  await files.syncDirectory(`${paths.lines}/${old}`);
  await files.syncDirectory(paths.group);
}

/** Before `line-begun` of a line that is not the main one: what was kept aside of it gets another name. */
export async function keepEarlierAside(files: FileSystem, paths: GroupPaths, line: Line): Promise<void> {
  const kept = `${paths.lines}/${line.id}`;
  if ((await files.status(kept)) === null) return;
  let count = 1;
  while ((await files.status(`${kept}.earlier-${count}`)) !== null) count += 1;
  await files.rename(kept, `${kept}.earlier-${count}`);
  await files.syncDirectory(paths.lines);
}

/** After `set-aside`: journal and base images get their other name. */
export async function finishSetAside(
  files: FileSystem,
  paths: GroupPaths,
  line: Line,
  directory: string,
): Promise<void> {
  const from = `${paths.lines}/${line.id}`;
  const to = `${paths.lines}/${directory}`;
  if ((await files.status(to)) === null) {
    if ((await files.status(from)) === null) await files.makeDirectory(to);
    else await files.rename(from, to);
    await files.syncDirectory(paths.lines);
  }
  if ((await files.status(paths.base)) !== null && (await files.status(`${to}/base`)) === null) {
    await files.rename(paths.base, `${to}/base`);
    await files.syncDirectory(to);
    await files.syncDirectory(paths.group);
  }
}

/** Journal segments or images are there, whatever the decisions say of them. */
export async function holdsContent(files: FileSystem, directory: string): Promise<boolean> {
  for (const name of await files.list(directory)) {
    if (/\.(seg|raw)$/.test(name)) return true;
    const path = `${directory}/${name}`;
    if ((await files.status(path))?.kind === 'directory' && (await holdsContent(files, path))) return true;
  }
  return false;
}
