/**
 * Which number a volume has: by its name, for the life of the state directory, in whatever order volumes are listed. Pure.
 *
 * Always holds: no two names have the same number; a name keeps its own, also while it is away; a name that comes gets
 * one that none ever had. Only when all 255 were given it gets that of the name that has been away the longest.
 * Must not know: files.
 */
import { assert } from '@rephub/platform';
import { MAX_VOLUME_INDEX } from './geometry.js';

/** What a state directory remembers. */
export interface NumberTable {
  /** No number from here on was ever given. */
  readonly next: number;
  /** By name: those that are away first, longest first. */
  readonly numbers: ReadonlyMap<string, number>;
}

/** What a start finds. */
export interface FoundNumbers {
  /** Null: a directory from before names were remembered, or in which none has ever gone: the maps say it all. */
  readonly table: NumberTable | null;
  /** What the headers of maps in use say, by name; also of volumes that are not listed any more. */
  readonly mapped: ReadonlyMap<string, number>;
  /** Numbers of the maps in use: one that no header has belongs to a map that was lost. */
  readonly inUse: readonly number[];
}

/** The table as it is to be from now on, with a number for each of `names`. */
export function numberVolumes(names: readonly string[], found: FoundNumbers): NumberTable {
  const { inUse, mapped, table } = found;
  const remembered = table?.numbers ?? new Map<string, number>();
  const given = new Map<string, number>();
  const taken = new Set<number>();
  const give = (name: string, number: number | undefined): void => {
    if (number === undefined || given.has(name) || taken.has(number)) return;
    given.set(name, number);
    taken.add(number);
  };
  for (const name of names) give(name, remembered.get(name));
  // Nothing remembered: an older version of this software has gone by the order, and told a hub so.
  for (const name of names) give(name, mapped.get(name));
  if (table === null) giveLost(names, found, given, give);

  const away = [...remembered, ...mapped].filter(([name]) => !names.includes(name));
  const gone = new Map(away.filter(([, number]) => !taken.has(number)));
  let next = Math.max(table?.next ?? 0, 1 + Math.max(-1, ...inUse, ...taken, ...gone.values()));
  for (const name of names) {
    if (given.has(name)) continue;
    if (next <= MAX_VOLUME_INDEX) give(name, next++);
    else give(name, unusedNumber(taken, gone));
  }
  return { next, numbers: new Map([...gone, ...names.map((name) => [name, given.get(name) ?? 0] as const)]) };
}

/**
 * Before names were remembered a number was a position in the list. A volume without a map that can be read has the number
 * of a map that was lost, so that this is noticed: its own position where that fits.
 */
function giveLost(
  names: readonly string[],
  { inUse, mapped }: FoundNumbers,
  given: ReadonlyMap<string, number>,
  give: (name: string, number: number) => void,
): void {
  const claimed = new Set(mapped.values());
  const lost = inUse.filter((number) => !claimed.has(number)).sort((one, other) => one - other);
  for (const [position, name] of names.entries()) if (lost.includes(position)) give(name, position);
  for (const name of names) for (const number of lost) if (!given.has(name)) give(name, number);
}

/** All were given at some time: one that nobody has, else that of the name that has been away the longest. */
function unusedNumber(taken: ReadonlySet<number>, gone: Map<string, number>): number {
  const held = new Set(gone.values());
  for (let number = 0; number <= MAX_VOLUME_INDEX; number += 1) {
    if (!taken.has(number) && !held.has(number)) return number;
  }
  const [longest] = gone;
  assert(longest !== undefined, 'fewer volumes are listed than there are numbers');
  gone.delete(longest[0]);
  return longest[1];
}

/**
 * The table for the next start when a hub has other numbers for these names: the hub's, for all that it knows; what
 * they leave no number for gets a new one.
 */
export function takeNumbers(
  names: readonly string[],
  table: NumberTable,
  hub: ReadonlyMap<string, number>,
): NumberTable {
  const taken = new Set(hub.values());
  const kept = [...table.numbers].filter(([name, number]) => !hub.has(name) && !taken.has(number));
  const next = Math.max(table.next, 1 + Math.max(-1, ...taken));
  return numberVolumes(names, {
    table: { next, numbers: new Map([...kept, ...hub]) },
    mapped: new Map(),
    inUse: [],
  });
}

/** True when the maps alone do not tell all that the table does: it is to be stored. */
export function isWorthStoring(names: readonly string[], { next, numbers }: NumberTable): boolean {
  return numbers.size > names.length || next > 1 + Math.max(-1, ...numbers.values());
}

export function isSameTable(one: NumberTable, other: NumberTable): boolean {
  const others = [...other.numbers];
  return (
    one.next === other.next &&
    one.numbers.size === others.length &&
    [...one.numbers].every(([name, number], at) => others[at]?.[0] === name && others[at][1] === number)
  );
}
