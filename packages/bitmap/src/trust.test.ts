import { type Fault } from '@rephub/platform';
import { SimFiles } from '@rephub/platform/sim';
import { describe, expect, it } from 'vitest';
import { HOT_LOG_NAME } from './hot-log.js';
import { Trust } from './trust.js';

const LOG = `/${HOT_LOG_NAME}`;

interface Rig {
  readonly trust: Trust;
  readonly files: SimFiles;
  /** What was done, in order. */
  readonly done: string[];
  /** The identity takes nothing any more. */
  isBroken: boolean;
}

async function rig(): Promise<Rig> {
  const files = new SimFiles();
  const log = await files.open(LOG, 'create');
  await log.sync();
  await log.close();
  await files.syncDirectory('/');
  const done: string[] = [];
  let isDistrusted = false;
  const made: Rig = {
    files,
    done,
    isBroken: false,
    trust: new Trust({
      files,
      directory: '',
      identity: {
        save: async ({ reason, trusted }) => {
          await Promise.resolve();
          if (made.isBroken) throw new Error('the identity is broken');
          done.push(`saved ${String(trusted)}: ${reason ?? ''}`);
        },
      },
      marks: {
        get isDistrusted() {
          return isDistrusted;
        },
        distrust: () => {
          isDistrusted = true;
          done.push('distrusted');
        },
      },
      stop: (fault: Fault) => done.push(`stopped: ${fault.code}`),
      letPass: () => done.push('let pass'),
      failed: (fault: Fault) => done.push(`failed: ${fault.code}`),
    }),
  };
  return made;
}

async function hasLog(files: SimFiles): Promise<boolean> {
  return (await files.crash({ seed: 1, fate: 'lose' }).status(LOG)) !== null;
}

describe('Trust', () => {
  it('is kept until a file fails: then all stops, the next process is told at once, and the agent once', async () => {
    const { trust, done } = await rig();
    expect([trust.isKept, trust.failure]).toEqual([true, null]);
    trust.fail(new Error('no such device'));
    trust.fail(new Error('and another'));
    expect([trust.isKept, trust.failure?.code]).toEqual([false, 'state-failed']);
    await Promise.resolve();
    expect(done).toEqual([
      'stopped: state-failed',
      'failed: state-failed',
      'saved false: state files failed: state files failed: no such device',
    ]);
  });

  it('lets writes pass only when the distrust is durable, and is not asked twice', async () => {
    const { trust, done } = await rig();
    const distrusting = trust.distrust('why not');
    expect(done).toEqual([]);
    await distrusting;
    await trust.distrust('again');
    expect(done).toEqual(['saved false: why not', 'distrusted', 'let pass', 'stopped: untrusted']);
    expect(trust.isKept).toBe(false);
  });

  it('has no failure when it was only distrusted: what needs no mark is turned away by nothing', async () => {
    const { trust, done } = await rig();
    await trust.distrust('why not');
    trust.fail(new Error('too late'));
    expect([trust.failure, done.filter((what) => what.startsWith('failed'))]).toEqual([null, []]);
  });

  it('removes hot.log, durably, when the identity cannot say so', async () => {
    const made = await rig();
    made.isBroken = true;
    await made.trust.distrust('why not');
    expect(await hasLog(made.files)).toBe(false);
    expect(made.done).toEqual(['distrusted', 'let pass', 'stopped: untrusted']);
  });

  it('lets no write pass when neither can be done, and may be tried again', async () => {
    const made = await rig();
    made.isBroken = true;
    made.files.inject({ operation: 'sync', path: '/', fault: 'io-error' });
    made.files.inject({ operation: 'remove', path: HOT_LOG_NAME, fault: 'io-error' });
    await expect(made.trust.distrust('why not')).rejects.toMatchObject({ kind: 'storage', code: 'cannot-distrust' });
    expect(made.done).toEqual([]);
    made.isBroken = false;
    await made.trust.distrust('why not');
    expect(made.done[0]).toBe('saved false: why not');
  });

  it('cuts a reason that would not fit into the identity', async () => {
    const { trust, done } = await rig();
    await trust.distrust('x'.repeat(5000));
    expect(done[0]).toBe(`saved false: ${'x'.repeat(500)}`);
  });

  it('once closed turns away what comes, without telling that the files have failed', async () => {
    const { trust, done } = await rig();
    trust.close();
    trust.fail(new Error('too late'));
    expect([trust.failure?.code, done]).toEqual(['closed', ['stopped: closed']]);
  });
});
