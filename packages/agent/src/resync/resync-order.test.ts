/** A resync that was asked for is what it was asked for, whichever process comes to carry it out. */
import { type Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { expect, test } from 'vitest';
import { ResyncOrder } from './resync-order.js';
import { type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const again = (tracker: Tracker): ResyncOrder => new ResyncOrder(tracker, silentLogger);
const done = (): Promise<void> => Promise.resolve();
const never = (): Promise<void> => new Promise(() => undefined);

/** What would be marked for an order that the next process finds; null: nothing, or it was marked. */
async function markedAgain(order: ResyncOrder): Promise<string | null> {
  let marked: string | null = null;
  await order
    .markAgain((cause) => {
      marked = cause;
      return Promise.reject(new Error('not now'));
    })
    .catch(() => undefined);
  return marked;
}

async function ready(): Promise<{ kit: VolumeKit; order: ResyncOrder }> {
  const kit = await volumeKit();
  const order = again(kit.tracker);
  expect([order.cause, order.isFull]).toEqual([null, false]);
  return { kit, order };
}

test('an order is known to the next process, and whether all is marked for it', async () => {
  const { kit, order } = await ready();
  void order.give(false, 'asked for', never);
  await kit.platform.clock.advance(100);
  expect(again(kit.tracker)).toMatchObject({ cause: 'full: asked for', isFull: true });
  expect(await markedAgain(again(kit.tracker))).toBe('full: asked for');
  await kit.run(order.give(false, 'asked for', done));
  expect(again(kit.tracker)).toMatchObject({ cause: 'full: asked for', isFull: true });
  expect(await markedAgain(again(kit.tracker))).toBeNull();
  await kit.run(order.give(true, 'asked\nfor '.repeat(100), done));
  const compare = again(kit.tracker);
  expect([compare.isFull, compare.cause?.length]).toEqual([false, 200]);
});

test('an order is served when the end of a span that sent all of it is durable, not before', async () => {
  const { kit, order } = await ready();
  await kit.run(order.give(false, 'asked for', done));
  order.spanDurable();
  expect(again(kit.tracker).isFull).toBe(true);
  order.sent();
  expect(again(kit.tracker).isFull).toBe(true);
  order.spanDurable();
  await kit.platform.clock.advance(100);
  expect([again(kit.tracker).cause, order.isFull]).toEqual([null, false]);
});

test('an order that is given anew is not served by the span of the one before', async () => {
  const { kit, order } = await ready();
  await kit.run(order.give(false, 'asked for', done));
  order.sent();
  await kit.run(order.give(false, 'once more', done));
  order.spanDurable();
  expect(again(kit.tracker).cause).toBe('full: once more');
});

test('an order that was sent before its marks were all on the disk is served', async () => {
  const { kit, order } = await ready();
  let marked = (): void => undefined;
  const giving = order.give(false, 'asked for', () => new Promise<void>((resolve) => (marked = resolve)));
  order.sent();
  order.spanDurable();
  marked();
  await kit.run(giving);
  expect(again(kit.tracker).cause).toBeNull();
});

test('an order is marked for when its own marks are on the disk, not those of the one before', async () => {
  const { kit, order } = await ready();
  const marked: (() => void)[] = [];
  const mark = (): Promise<void> => new Promise((resolve) => marked.push(resolve));
  void order.give(true, 'by comparing', mark);
  void order.give(false, 'in full', mark);
  marked[0]?.();
  await kit.platform.clock.advance(100);
  expect(await markedAgain(again(kit.tracker))).toBe('full: in full');
  marked[1]?.();
  await kit.platform.clock.advance(100);
  expect(again(kit.tracker).cause).toBe('full: in full');
  expect(await markedAgain(again(kit.tracker))).toBeNull();
});

test('what another version has noted is no order', async () => {
  const { kit } = await ready();
  await kit.run(kit.tracker.saveIdentity({ notes: { resync: 'later full: asked for' } }));
  expect(again(kit.tracker).cause).toBeNull();
});
