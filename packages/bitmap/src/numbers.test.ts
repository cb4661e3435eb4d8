import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { MAX_VOLUME_INDEX } from './geometry.js';
import { type NumberTable, numberVolumes, takeNumbers } from './numbers.js';

const found = (
  numbers: Readonly<Record<string, number>>,
  next: number,
): { readonly table: NumberTable; readonly mapped: Map<string, number>; readonly inUse: readonly number[] } => ({
  table: { next, numbers: new Map(Object.entries(numbers)) },
  mapped: new Map(),
  inUse: [],
});
const older = (
  mapped: Readonly<Record<string, number>>,
  inUse: readonly number[] = Object.values(mapped),
): { readonly table: null; readonly mapped: Map<string, number>; readonly inUse: readonly number[] } => ({
  table: null,
  mapped: new Map(Object.entries(mapped)),
  inUse,
});
const entries = ({ numbers }: NumberTable): unknown => Object.fromEntries(numbers);

describe('the numbers of volumes', () => {
  it('are positions in the list where there is nothing yet', () => {
    const table = numberVolumes(['root', 'swap', 'data'], older({}));
    expect([table.next, entries(table)]).toEqual([3, { root: 0, swap: 1, data: 2 }]);
  });

  it('stay with the names in any order, and one that comes in front gets one that was never given', () => {
    const table = numberVolumes(['new', 'data', 'root'], older({ root: 0, swap: 1, data: 2 }));
    expect([table.next, entries(table)]).toEqual([4, { swap: 1, new: 3, data: 2, root: 0 }]);
    const back = numberVolumes(['swap', 'root'], { ...older({ new: 3, data: 2, root: 0 }), table });
    expect([back.next, entries(back)]).toEqual([4, { new: 3, data: 2, swap: 1, root: 0 }]);
  });

  it('of one that was the highest are not given again either', () => {
    const gone = numberVolumes(['root'], older({ root: 0, data: 1 }));
    expect(entries(numberVolumes(['root', 'other'], { ...older({ root: 0 }), table: gone }))).toEqual({
      data: 1,
      root: 0,
      other: 2,
    });
  });

  it('that are remembered come before those of the maps, which count for names that older software has numbered meanwhile', () => {
    const both = { ...older({ root: 0, x: 1 }), table: found({ swap: 1, root: 0 }, 2).table };
    expect(entries(numberVolumes(['root', 'x'], both))).toEqual({ root: 0, x: 1 });
    expect(entries(numberVolumes(['swap', 'x'], both))).toEqual({ root: 0, swap: 1, x: 2 });
  });

  it('of a map that was lost go to the volume that must have had it, so that it is missed', () => {
    expect(entries(numberVolumes(['a', 'b'], older({ b: 1 }, [0, 1])))).toEqual({ a: 0, b: 1 });
    expect(entries(numberVolumes(['b', 'a'], older({ b: 1 }, [0, 1])))).toEqual({ b: 1, a: 0 });
    expect(entries(numberVolumes(['a', 'new'], older({ a: 0 })))).toEqual({ a: 0, new: 1 });
  });

  it('are given again only when all were given, and then that of who has been away the longest', () => {
    const random = new SeededRandomness(5);
    const below = (limit: number): number => Math.floor(random.fraction() * limit);
    let names = ['a0', 'a1', 'a2'];
    let table = numberVolumes(names, older({}));
    const holders = new Map<number, string>([...table.numbers].map(([name, number]) => [number, name]));
    const left: string[] = [];
    for (let step = 3; step < 700; step += 1) {
      const leaves = below(3) > 0 && names.length > 1 ? names[below(names.length)] : undefined;
      if (leaves !== undefined) left.push(leaves);
      names = names.filter((name) => name !== leaves);
      names.splice(below(names.length + 1), 0, `a${step}`);
      const before = table;
      const mapped = new Map([...table.numbers].filter(([name]) => names.includes(name)));
      table = numberVolumes(names, { table, mapped, inUse: [...mapped.values()] });
      expect(new Set(table.numbers.values()).size).toBe(table.numbers.size);
      for (const name of names.filter((kept) => kept !== `a${step}`)) {
        expect(table.numbers.get(name), name).toBe(before.numbers.get(name));
      }
      const number = table.numbers.get(`a${step}`) ?? -1;
      const holder = holders.get(number);
      expect(holder === undefined).toBe(step <= MAX_VOLUME_INDEX);
      if (holder !== undefined) expect(holder).toBe(left.shift());
      holders.set(number, `a${step}`);
      if (names.length > 200) {
        left.push(...names.splice(0, 100));
      }
    }
  });

  it('that a hub has are taken, and what they leave no number for gets a new one', () => {
    const table = { next: 4, numbers: new Map(Object.entries({ away: 3, gone: 1, root: 0, log: 2 })) };
    const taken = takeNumbers(['root', 'log'], table, new Map(Object.entries({ root: 0, data: 2, gone: 5 })));
    expect([taken.next, entries(taken)]).toEqual([7, { away: 3, data: 2, gone: 5, root: 0, log: 6 }]);
    expect(takeNumbers(['root', 'log'], taken, new Map(Object.entries({ root: 0, data: 2, gone: 5 })))).toEqual(taken);
    const swapped = takeNumbers(['root', 'log'], taken, new Map(Object.entries({ root: 6, log: 0 })));
    expect([swapped.numbers.get('root'), swapped.numbers.get('log'), swapped.next]).toEqual([6, 0, 7]);
  });
});
