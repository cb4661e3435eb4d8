/** An upstream that becomes larger: noticed without disturbing it, told when every connection can do it, refused when it shrinks. */
import { NbdError, readBytes, writeBytes } from '@rephub/nbd';
import { LinkFault } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { ScriptedDevice } from '../testing/scripted-device.js';
import { outcomeOf, POLICY, upstreamKit } from '../testing/upstream-kit.js';
import { type UpstreamConnection } from './lane.js';

const SIZE = 1024 * 1024;

/** A server whose export has a size; each connection keeps the one that it was told. */
async function server(abilities: { readonly multiConn: boolean }, connections = 1) {
  const clock = new SimClock();
  const state = { sizeBytes: SIZE, asked: 0, opened: 0, mute: false, lose: (): void => undefined };
  const kit = await upstreamKit(
    clock,
    (tell) => {
      state.opened++;
      state.lose = () => tell(new LinkFault('connection-lost', 'gone'));
      return Promise.resolve(new ScriptedDevice(state.sizeBytes, abilities));
    },
    { connections, multiConn: connections > 1 ? 'emulate' : 'auto' },
    { ...POLICY, retries: Infinity },
    undefined,
    () => {
      state.asked++;
      return state.mute
        ? Promise.reject(new LinkFault('connect-timeout', 'no answer'))
        : Promise.resolve(state.sizeBytes);
    },
  );
  return { ...kit, state };
}

describe('an upstream that grows while it is in use', () => {
  it('is asked now and then; connections are opened anew once, and what all of them can do is told', async () => {
    const { clock, state, told, upstream, outcome } = await server({ multiConn: true }, 3);
    await outcome(writeBytes(upstream, 0, Buffer.alloc(4096, 1)));
    await clock.advance(25_000);
    expect([state.asked, state.opened, told.grown]).toEqual([2, 3, []]);
    state.sizeBytes = 2 * SIZE;
    await clock.advance(10_000);
    expect(state.opened).toBe(6);
    expect(told.grown.at(0)).toBe(2 * SIZE);
    expect([upstream.sizeBytes, upstream.once.sizeBytes]).toEqual([SIZE, SIZE]);
    upstream.admit(2 * SIZE);
    expect([upstream.sizeBytes, upstream.once.sizeBytes]).toEqual([2 * SIZE, 2 * SIZE]);
    const before = told.grown.length;
    await clock.advance(60_000);
    expect([state.opened, told.grown.length]).toEqual([6, before]);
    expect(await outcome(writeBytes(upstream, 2 * SIZE - 4096, Buffer.alloc(4096, 2)))).toBe(0);
    expect(told.unflushedLost).toBe(0);
    await upstream.close();
  });

  it('what is not admitted is told again', async () => {
    const { clock, state, told, upstream } = await server({ multiConn: true });
    state.sizeBytes = 2 * SIZE;
    await clock.advance(45_000);
    expect(told.grown.length).toBeGreaterThan(2);
    expect(state.opened).toBe(2);
    await upstream.close();
  });

  it('that says nothing of several connections is not asked, but seen when its connection is opened anew', async () => {
    const { clock, state, told, upstream } = await server({ multiConn: false });
    state.sizeBytes = 2 * SIZE;
    await clock.advance(60_000);
    expect([state.asked, told.grown]).toEqual([0, []]);
    state.lose();
    await clock.advance(1_000);
    expect(told.grown).toEqual([2 * SIZE]);
    await upstream.close();
  });

  it('that does not answer is asked less and less often', async () => {
    const { clock, state, upstream } = await server({ multiConn: true });
    state.mute = true;
    await clock.advance(700_000);
    expect(state.asked).toBeLessThan(8);
    state.mute = false;
    state.sizeBytes = 2 * SIZE;
    await clock.advance(700_000);
    expect(state.opened).toBe(2);
    await upstream.close();
  });

  it('in part of a sector is left alone, and one whose new connections are no larger is not opened anew again', async () => {
    const { clock, state, told, upstream } = await server({ multiConn: true });
    state.sizeBytes = SIZE + 100;
    await clock.advance(60_000);
    expect([state.opened, told.grown]).toEqual([1, []]);
    await upstream.close();
    const liar = await server({ multiConn: true });
    const sizes = [3 * SIZE];
    Object.defineProperty(liar.state, 'sizeBytes', { get: () => (liar.state.opened < 2 ? sizes[0] : SIZE) });
    await liar.clock.advance(60_000);
    expect([liar.state.opened, liar.told.grown]).toEqual([2, []]);
    await liar.upstream.close();
  });

  it('and shrinks again before it was used is refused; when it is back, all goes on', async () => {
    const { clock, state, told, upstream, outcome } = await server({ multiConn: true });
    state.sizeBytes = 2 * SIZE;
    await clock.advance(10_000);
    expect(told.grown.at(0)).toBe(2 * SIZE);
    state.sizeBytes = SIZE;
    state.lose();
    await clock.advance(1_000);
    expect(upstream.status.state).toBe('up');
    upstream.admit(2 * SIZE);
    const reading = outcomeOf(readBytes(upstream, 0, 4096));
    await clock.advance(1_000);
    expect(upstream.status).toMatchObject({ state: 'refused', up: false });
    expect(upstream.status.reason).toContain(`${SIZE} bytes instead of ${2 * SIZE}`);
    state.sizeBytes = 2 * SIZE;
    await clock.advance(10_000);
    expect(await reading).toBe(NbdError.Ok);
    expect(await outcome(readBytes(upstream, SIZE, 4096))).toBe(0);
    await upstream.close();
  });

  it('cut short under its connection it is not whole until it is as large as before', async () => {
    const clock = new SimClock();
    const state = { sizeBytes: SIZE };
    class Cut extends ScriptedDevice implements UpstreamConnection {
      grow(): Promise<number> {
        return Promise.resolve(state.sizeBytes);
      }
    }
    const { told, upstream } = await upstreamKit(clock, () => Promise.resolve(new Cut(SIZE)));
    state.sizeBytes = SIZE / 2;
    await clock.advance(10_000);
    expect(upstream.status).toMatchObject({ up: true, state: 'shrunk' });
    expect(upstream.status.reason).toContain(`${SIZE / 2} bytes now, not ${SIZE}`);
    // A guest's write beyond the end makes a file longer again.
    state.sizeBytes = (SIZE * 3) / 4;
    await clock.advance(10_000);
    expect(upstream.status).toMatchObject({ up: true, state: 'shrunk' });
    expect(told.unknown).toEqual([]);
    state.sizeBytes = SIZE;
    await clock.advance(10_000);
    expect(upstream.status).toMatchObject({ up: true, state: 'up', reason: null });
    // What had been cut off may be something else now.
    expect(told.unknown).toEqual([[SIZE / 2, SIZE / 2]]);
    await clock.advance(60_000);
    expect(told.unknown.length).toBe(1);
    await upstream.close();
  });

  it('refused for being shorter and then whole again, what it lacked is read again', async () => {
    const { clock, state, told, upstream } = await server({ multiConn: true });
    state.sizeBytes = SIZE / 4;
    state.lose();
    const reading = outcomeOf(readBytes(upstream, 0, 4096));
    await clock.advance(5_000);
    expect(upstream.status).toMatchObject({ state: 'refused' });
    state.sizeBytes = SIZE;
    await clock.advance(20_000);
    expect(await reading).toBe(NbdError.Ok);
    expect(told.unknown).toEqual([[SIZE / 4, (SIZE * 3) / 4]]);
    await upstream.close();
  });

  it('like a file under its connection needs no other connection', async () => {
    const clock = new SimClock();
    const state = { sizeBytes: SIZE, opened: 0 };
    class Growing extends ScriptedDevice implements UpstreamConnection {
      grow(): Promise<number> {
        return Promise.resolve(state.sizeBytes);
      }

      override get sizeBytes(): number {
        return state.sizeBytes;
      }
    }
    const { told, upstream } = await upstreamKit(clock, () => {
      state.opened++;
      return Promise.resolve(new Growing(4 * SIZE));
    });
    state.sizeBytes = 2 * SIZE;
    await clock.advance(10_000);
    expect([state.opened, told.grown]).toEqual([1, [2 * SIZE]]);
    await upstream.close();
  });
});
