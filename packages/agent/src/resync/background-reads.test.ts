import { BlockRequest } from '@rephub/nbd';
import { sleep } from '@rephub/platform';
import { SimClock } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { BackgroundReads } from './background-reads.js';
import { Courtesy, IDLE_MS, MOST_PIECE_BYTES, PIECE_BYTES } from './courtesy.js';
import { GuestLatency } from '../guest/guest-latency.js';

/** With a guest whose request is in flight until `end` is called. */
function busy() {
  const clock = new SimClock();
  const latency = new GuestLatency();
  const volume = latency.addVolume('disk0');
  volume.began(0);
  const end = (): void => {
    volume.ended(new BlockRequest({ completed: () => undefined }), 0, clock.monotonicMs(), true);
  };
  return { clock, end, reads: new BackgroundReads(clock, new Courtesy(latency)) };
}

describe('BackgroundReads', () => {
  it('lets readers in one after the other, in the order of their calls, whatever they read', async () => {
    const { clock, reads } = busy();
    const seen: string[] = [];
    const read = async (name: string, bytes: number): Promise<void> => {
      await reads.run(bytes, async () => {
        seen.push(`${name} begins`);
        await sleep(clock, 30);
        seen.push(`${name} ends`);
      });
    };
    const sizes = [PIECE_BYTES, MOST_PIECE_BYTES, 0];
    const all = Promise.all(sizes.map((bytes, at) => read(String(at), bytes)));
    await clock.runUntil(() => seen.length === 6);
    await all;
    expect(seen).toEqual(['0 begins', '0 ends', '1 begins', '1 ends', '2 begins', '2 ends']);
  });

  it('gives the turn of one that failed to the next', async () => {
    const { clock, reads } = busy();
    const seen: string[] = [];
    const failed = reads.run(1, () => Promise.reject(new Error('unreadable'))).catch((fault: unknown) => String(fault));
    const next = reads.run(1, () => {
      seen.push('read');
      return Promise.resolve('done');
    });
    await clock.runUntil(() => seen.length === 1);
    expect([await failed, await next]).toEqual(['Error: unreadable', 'done']);
  });

  it('lets all in that wait when the guest has become idle, before one that comes only then', async () => {
    const { clock, end, reads } = busy();
    const begun: string[] = [];
    const read = async (name: string): Promise<void> => {
      await reads.run(MOST_PIECE_BYTES, async () => {
        begun.push(name);
        await sleep(clock, 60_000);
      });
    };
    void Promise.all(['first', 'second', 'third'].map(read));
    // Between two times at which it is looked whether the guest is idle.
    await clock.advance(1_005);
    expect(begun).toEqual(['first']);
    end();
    await clock.advance(IDLE_MS - 1);
    expect(begun).toEqual(['first']);
    await clock.advance(1);
    void read('late');
    await clock.advance(20);
    expect([begun, reads.pieceBytes]).toEqual([['first', 'second', 'third', 'late'], MOST_PIECE_BYTES]);
  });
});
