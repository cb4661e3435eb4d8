/** Marks that were not synced are believed only in the run of the host in which they were made. */
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { describe, expect, it, test } from 'vitest';
import { bootDoubt, keptAs, SYNCED } from './boot.js';
import { decodeIdentity, encodeIdentity, IDENTITY_BYTES, IDENTITY_SLOT_BYTES } from './identity.js';
import { EXTENT_BYTES } from './geometry.js';
import type { TrackerOptions } from './options.js';
import { Tracker } from './tracker.js';

const DIRECTORY = '/state/vm1';
const SIZE = 8 * EXTENT_BYTES;

test.each([
  [SYNCED, 'process', null, null],
  [SYNCED, 'host', 'b', null],
  ['', 'host', 'b', null],
  ['', 'process', 'b', /a version that did not note/],
  [keptAs('process', 'a'), 'process', 'a', null],
  [keptAs('process', 'a'), 'host', 'a', null],
  [keptAs('process', 'a'), 'process', 'b', /started anew$/],
  [keptAs('process', 'a'), 'host', 'b', /started anew$/],
  [keptAs('process', 'a'), 'process', null, /without a boot id/],
  [keptAs('process', null), 'process', 'b', /without a boot id/],
  [keptAs('process', null), 'process', null, /without a boot id/],
] as const)('marks kept as "%s", found with durability %s in run %s: %s', (kept, durability, bootId, expected) => {
  const doubt = bootDoubt(kept, durability, bootId);
  if (expected === null) expect(doubt).toBeNull();
  else expect(doubt).toMatch(expected);
});

interface World {
  files: SimFiles;
  readonly clock: SimClock;
  readonly randomness: SeededRandomness;
}
const world = (): World => ({ files: new SimFiles(), clock: new SimClock(), randomness: new SeededRandomness(7) });

const open = (here: World, patch: Partial<TrackerOptions> = {}): Promise<Tracker> =>
  Tracker.open(here, {
    ...{ directory: DIRECTORY, group: 'vm1', durability: 'process', bootId: here.files.bootId },
    ...{ volumes: [{ index: 0, name: 'disk0', sizeBytes: SIZE }] },
    hooks: { wantsFlush: () => undefined, failed: () => undefined },
    ...patch,
  });

/** Nothing is marked, then the first extent is written to; then power goes, or the process dies. */
async function left(here: World, fate: 'keep' | 'lose' | 'mixed', patch: Partial<TrackerOptions> = {}): Promise<void> {
  const tracker = await open(here, patch);
  for (let run = tracker.nextDirty(0, 0); run !== null; run = tracker.nextDirty(0, 0)) {
    tracker.numbered(tracker.take(0, run.offset, run.length), 1, tracker.takeTicket());
  }
  tracker.hubDurable(1);
  tracker.upstreamFlushed(0, tracker.takeTicket());
  await tracker.coolIdle();
  await tracker.activate(0, 0, 4096);
  here.files = here.files.crash({ seed: 3, fate });
}

describe('durability process', () => {
  it.each(['lose', 'mixed'] as const)('believes no mark after the host has lost power (%s)', async (fate) => {
    const here = world();
    await left(here, fate);
    const tracker = await open(here);
    expect([tracker.found, tracker.foundReason, tracker.dirtyBytes]).toEqual([
      'untrusted',
      'marks were not synced (durability process), and the host was started anew',
      SIZE,
    ]);
  });

  it('believes them after its process was killed, and after an orderly end with marks left whatever came then', async () => {
    const here = world();
    await left(here, 'keep');
    const tracker = await open(here);
    expect([tracker.found, [...tracker.runs(0)]]).toEqual(['marked', [{ offset: 0, length: EXTENT_BYTES }]]);
    tracker.setDirty(0, 0, 4096);
    expect(await tracker.closeClean(1)).toBe(false);
    here.files = here.files.crash({ seed: 3, fate: 'lose' });
    const after = await open(here);
    expect([after.found, after.anyDirty()]).toEqual(['marked', true]);
  });

  it('does not believe them either when the next start is with durability host', async () => {
    const here = world();
    await left(here, 'lose');
    expect((await open(here, { durability: 'host' })).found).toBe('untrusted');
  });

  it('keeps no session twice, though the host lost power', async () => {
    const here = world();
    const first = await open(here);
    await first.saveIdentity({ notes: { reserved: '77' } });
    const { session } = first.identity;
    here.files = here.files.crash({ seed: 3, fate: 'lose' });
    const { identity } = await open(here);
    expect([identity.session, identity.notes]).toEqual([session + 1, { reserved: '77' }]);
  });

  it('without a boot id believes nothing after an end that was not in order', async () => {
    const here = world();
    await left(here, 'keep', { bootId: null });
    expect((await open(here, { bootId: null })).found).toBe('untrusted');
  });
});

describe('durability host', () => {
  it('believes its marks after a loss of power, and takes over what a killed process had not synced', async () => {
    const here = world();
    await left(here, 'keep');
    await (await open(here, { durability: 'host' })).close();
    here.files = here.files.crash({ seed: 3, fate: 'lose' });
    const tracker = await open(here, { durability: 'host' });
    expect([tracker.found, [...tracker.runs(0)]]).toEqual(['marked', [{ offset: 0, length: EXTENT_BYTES }]]);
  });
});

test('a state directory of a version that did not say how marks were kept is read, and believed with durability host only', async () => {
  for (const durability of ['host', 'process'] as const) {
    const here = world();
    await left(here, 'keep', { durability: 'host' });
    const path = `${DIRECTORY}/identity`;
    const file = await here.files.open(path, 'write');
    const bytes = Buffer.alloc(IDENTITY_BYTES);
    await file.read(bytes, 0);
    const { identity, sequence } = decodeIdentity(bytes);
    const before = { ...identity, kept: undefined };
    await file.write(
      [encodeIdentity(before as unknown as typeof identity, sequence + 1)],
      ((sequence + 1) % 2) * IDENTITY_SLOT_BYTES,
    );
    await file.close();
    const tracker = await open(here, { durability });
    expect(tracker.found).toBe(durability === 'host' ? 'marked' : 'untrusted');
    await tracker.close();
    expect((await open(here, { durability })).found).toBe('marked');
  }
});
