import { BlockRequest, Command, flushDevice, NbdError, writeBytes } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { FlushDebt } from './flush-debt.js';
import { outcomeOf } from '../testing/upstream-kit.js';
import { PretendingDevice } from '../testing/pretending-device.js';
import { DISK_BYTES, volumeKit } from '../testing/volume-kit.js';

describe('what a volume owes its guest (promise FLUSH)', () => {
  it('is due when writes are gone, and owed already while upstream may have lost them', () => {
    const doubt = { mayHaveDropped: false, mayHaveLost: false };
    let changes = 0;
    const debt = new FlushDebt(true, doubt, () => (changes += 1));
    expect([debt.isDue, debt.isOwed]).toEqual([false, false]);
    doubt.mayHaveLost = true;
    expect([debt.isDue, debt.isOwed]).toEqual([false, true]);
    debt.owe();
    doubt.mayHaveLost = false;
    expect([debt.isDue, debt.isOwed, changes]).toEqual([true, true, 1]);
    debt.settle();
    debt.settle();
    expect([debt.isDue, debt.isOwed, changes]).toEqual([false, false, 2]);
  });

  it('of an upstream without flushes is never owed: there is none that could fail', () => {
    const debt = new FlushDebt(false, { mayHaveDropped: false, mayHaveLost: true }, () => undefined);
    debt.owe();
    expect(debt.isOwed).toBe(false);
  });

  it.each([true, false])(
    'is settled by the answer to a client that is there: it has gone meanwhile: %s',
    async (isGone) => {
      const disk = new PretendingDevice(DISK_BYTES);
      const kit = await volumeKit({
        disk,
        upstream: { replayBytes: 0 },
        policy: { retries: 0, delayMs: 10, exponential: false },
      });
      const { volume } = kit;
      expect(await kit.run(outcomeOf(writeBytes(volume, 0, Buffer.alloc(4096, 1))))).toBe(0);
      disk.fail(Command.Flush, NbdError.Eio, 1);
      const answers: number[] = [];
      const flush = new BlockRequest({ isGone, completed: ({ error }) => answers.push(error) });
      flush.command = Command.Flush;
      volume.submit(flush);
      await kit.platform.clock.advance(1000);
      expect(answers).toEqual([NbdError.Eio]);
      expect(volume.debt.isOwed).toBe(isGone);
      // One that was read only after its client's end is answered at once, and tells nobody either.
      if (isGone) volume.submit(flush);
      expect([answers.length, volume.debt.isOwed]).toEqual([isGone ? 2 : 1, isGone]);
      expect(await kit.run(outcomeOf(flushDevice(volume)))).toBe(isGone ? NbdError.Eio : 0);
      expect(await kit.run(outcomeOf(flushDevice(volume)))).toBe(0);
    },
  );
});
