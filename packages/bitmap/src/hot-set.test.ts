import { SeededRandomness } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { extentKey } from './geometry.js';
import { HotSet } from './hot-set.js';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);

interface ModelSlot {
  key: number;
  inFlight: number;
  touched: Set<number>;
}

describe(`the set of hot extents (seed ${seed})`, () => {
  it('agrees with a plain map and list, in what is there, in flight, touched and in the order of use', () => {
    const random = new SeededRandomness(seed);
    const slots = 40;
    const hot = new HotSet(slots, 16_384);
    const order: ModelSlot[] = [];
    for (let step = 0; step < 20_000; step += 1) {
      const extent = random.below(random.chance() ? 30 : 2 ** 24);
      const key = extentKey(random.below(255), extent);
      const there = order.find((slot) => slot.key === key);
      expect(hot.find(key) >= 0).toBe(there !== undefined);
      if (there === undefined && order.length < slots) {
        hot.arrived(hot.assign(key));
        order.push({ key, inFlight: 1, touched: new Set() });
        continue;
      }
      const chosen = order[random.below(order.length)];
      if (chosen === undefined) continue;
      const slot = hot.find(chosen.key);
      expect(hot.inFlight(slot)).toBe(chosen.inFlight);
      const draw = random.below(4);
      if (draw === 0) {
        hot.raise(slot);
        chosen.inFlight += 1;
        order.splice(order.indexOf(chosen), 1);
        order.push(chosen);
      } else if (draw === 1 && chosen.inFlight > 0) {
        hot.lower(slot);
        chosen.inFlight -= 1;
      } else if (draw === 2) {
        const from = random.below(256);
        const to = from + 1 + random.below(256 - from);
        hot.touch(slot, from, to, step, step);
        for (let block = from; block < to; block += 1) chosen.touched.add(block);
        expect(hot.numberOf(slot)).toBe(step);
      } else if (chosen.inFlight === 0) {
        const found = new Set<number>();
        for (let run = hot.nextTouched(slot, 0); run >= 0; run = hot.nextTouched(slot, run % 2048)) {
          for (let block = Math.floor(run / 2048); block < run % 2048; block += 1) found.add(block);
        }
        expect(found).toEqual(chosen.touched);
        hot.remove(slot);
        order.splice(order.indexOf(chosen), 1);
      }
    }
    const used: number[] = [];
    for (let slot = hot.oldest(); slot >= 0; slot = hot.newerThan(slot)) used.push(hot.keyOf(slot));
    expect(used).toEqual(order.map(({ key }) => key));
    expect(hot.used).toBe(order.length);
  });

  it('raises all extents of a range or none, and none that is still on its way', () => {
    const hot = new HotSet(16, 65_536);
    const first = hot.assign(extentKey(0, 7));
    const second = hot.assign(extentKey(0, 8));
    hot.arrived(first);
    expect(hot.raiseAll(0, 7, 8)).toBe(false);
    expect(hot.inFlight(first)).toBe(1);
    hot.arrived(second);
    expect(hot.raiseAll(0, 7, 8)).toBe(true);
    expect([hot.inFlight(first), hot.inFlight(second)]).toEqual([2, 2]);
    expect(hot.raiseAll(1, 7, 7)).toBe(false);
  });
});
