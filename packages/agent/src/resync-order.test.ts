/** A resync that was asked for is what it was asked for, whichever process comes to carry it out. */
import { type Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { expect, test } from 'vitest';
import { ResyncOrder } from './resync-order.js';
import { type VolumeKit, volumeKit } from './testing/volume-kit.js';

const again = (tracker: Tracker): ResyncOrder => new ResyncOrder(tracker, silentLogger);
const done = Promise.resolve();

async function given(compare = false): Promise<{ kit: VolumeKit; order: ResyncOrder }> {
  const kit = await volumeKit();
  const order = again(kit.tracker);
  expect([order.cause, order.isFull, order.isUnmarked]).toEqual([null, false, false]);
  await kit.run(order.give(compare, 'asked for'));
  return { kit, order };
}

test('an order is known to the next process from when it was given, and whether all is marked for it', async () => {
  const { kit, order } = await given();
  expect(again(kit.tracker)).toMatchObject({ cause: 'full: asked for', isFull: true, isUnmarked: true });
  await kit.run(order.begun(done));
  expect(again(kit.tracker)).toMatchObject({ cause: 'full: asked for', isFull: true, isUnmarked: false });
  await kit.run(order.give(true, 'asked\nfor '.repeat(100)));
  const compare = again(kit.tracker);
  expect([compare.isFull, compare.isUnmarked, compare.cause?.length]).toEqual([false, true, 200]);
});

test('an order is served when the end of a span that sent all of it is durable, not before', async () => {
  const { kit, order } = await given();
  // A span from before the order ends meanwhile.
  order.sent();
  order.spanDurable();
  await kit.run(order.begun(done));
  order.spanDurable();
  expect(again(kit.tracker).isFull).toBe(true);
  order.sent();
  expect(again(kit.tracker).isFull).toBe(true);
  order.spanDurable();
  await kit.platform.clock.advance(100);
  expect([again(kit.tracker).cause, order.isFull]).toEqual([null, false]);
});

test('an order that is given anew is not served by the span of the one before', async () => {
  const { kit, order } = await given();
  await kit.run(order.begun(done));
  order.sent();
  await kit.run(order.give(false, 'once more'));
  order.spanDurable();
  expect(again(kit.tracker).cause).toBe('full: once more');
});

test('an order that was sent before its marks were all on the disk is served', async () => {
  const { kit, order } = await given();
  let marked = (): void => undefined;
  const marking = order.begun(new Promise<void>((resolve) => (marked = resolve)));
  order.sent();
  order.spanDurable();
  marked();
  await kit.run(marking);
  expect(again(kit.tracker).cause).toBeNull();
});

test('what another version has noted is no order', async () => {
  const { kit } = await given();
  await kit.run(kit.tracker.saveIdentity({ notes: { resync: 'later full: asked for' } }));
  expect(again(kit.tracker).cause).toBeNull();
});
