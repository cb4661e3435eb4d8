/** What was found different outlives its process, until a hub has said that it keeps the event. */
import { Tracker } from '@rephub/bitmap';
import { silentLogger } from '@rephub/platform';
import { simPlatform, type SimPlatform } from '@rephub/platform/sim';
import { type VerifyReport } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { Findings } from './findings.js';

const REPORT: VerifyReport = {
  ...{ id: 'a', cause: 'test', startedAt: 'then', finishedAt: null, bytesTotal: 100, bytesSame: 10, bytesUnknown: 0 },
  ...{ bytesDiffer: 5, differs: [{ volume: 'disk0', offset: 0, length: 5 }], reason: null },
};

async function opened(platform: SimPlatform): Promise<{ tracker: Tracker; findings: Findings }> {
  const { clock } = platform;
  const hooks = { wantsFlush: () => undefined, failed: () => undefined };
  const volumes = [{ index: 0, name: 'disk0', sizeBytes: 1024 * 1024 }];
  let isOpen = false;
  const opening = Tracker.open(platform, { directory: '/state', group: 'vm1', volumes, hooks }).finally(() => {
    isOpen = true;
  });
  await clock.runUntil(() => isOpen);
  const tracker = await opening;
  return { tracker, findings: new Findings(tracker, silentLogger, () => clock.monotonicMs()) };
}

/** The host loses power, and starts again. */
function afterPowerCut({ clock, files, network }: SimPlatform): SimPlatform {
  return simPlatform(2, { clock, network, files: files.crash({ seed: 1, fate: 'lose' }) });
}

const idsOf = ({ untold }: Findings): string[] => untold.map(({ id, bytesDiffer }) => `${id} ${bytesDiffer}`);

test('a finding: what was kept is there after a power cut, in full, until the hub keeps all of it', async () => {
  const first = simPlatform(1);
  const { findings } = await opened(first);
  await findings.keep(REPORT);
  await Promise.all([findings.keep({ ...REPORT, id: 'b' }), findings.keep({ ...REPORT, bytesDiffer: 9 })]);
  const second = afterPowerCut(first);
  const later = await opened(second);
  expect(later.findings.untold).toEqual([
    { ...REPORT, id: 'b' },
    { ...REPORT, bytesDiffer: 9 },
  ]);
  later.findings.kept([
    { id: 'a', bytesDiffer: 5 },
    { id: 'b', bytesDiffer: 5 },
  ]);
  expect(idsOf(later.findings)).toEqual(['a 9']);
  await second.clock.advance(100);
  const last = await opened(afterPowerCut(second));
  expect(idsOf(last.findings)).toEqual(['a 9']);
});

test('a finding: what else is known of each volume takes no room from the others', async () => {
  const host = simPlatform(1);
  const { findings } = await opened(host);
  const figures = { bytesTotal: 10, bytesSame: 5, bytesDiffer: 5, bytesUnknown: 0, reason: null };
  const volumes = Array.from({ length: 255 }, (_, index) => ({ name: `disk${index}`, ...figures }));
  await findings.keep({ ...REPORT, id: 'b' });
  await findings.keep({ ...REPORT, volumes });
  expect((await opened(afterPowerCut(host))).findings.untold).toEqual([{ ...REPORT, id: 'b' }, REPORT]);
});

test('a finding: a hub that cannot say what it keeps is believed when it has read a beat of after it was found', async () => {
  const { clock, ...host } = simPlatform(1);
  const { findings } = await opened({ clock, ...host });
  await clock.advance(1000);
  await findings.keep(REPORT);
  const foundMs = clock.monotonicMs();
  findings.heard(foundMs - 500);
  findings.heard(foundMs);
  expect(idsOf(findings)).toEqual(['a 5']);
  findings.heard(foundMs + 1);
  expect(idsOf(findings)).toEqual([]);
});

test('a finding: it is noted without its places where the notes have no room for them', async () => {
  const platform = simPlatform(1);
  const { findings, tracker } = await opened(platform);
  await tracker.saveIdentity({ notes: { other: 'x'.repeat(1800) } });
  const differs = Array.from({ length: 8 }, (_, at) => ({ volume: 'v'.repeat(40), offset: at, length: 1 }));
  await findings.keep({ ...REPORT, differs });
  const later = await opened(afterPowerCut(platform));
  expect(later.findings.untold).toMatchObject([{ id: 'a', bytesDiffer: 5 }]);
  expect(later.tracker.identity.notes['other']).toHaveLength(1800);
});

test('a finding: however many there are, and however much each says, there is room for the other notes', async () => {
  const platform = simPlatform(1);
  const { findings, tracker } = await opened(platform);
  const differs = Array.from({ length: 64 }, (_, at) => ({ volume: 'v'.repeat(60), offset: at * 2 ** 40, length: 1 }));
  const said = { cause: 'c'.repeat(4000), reason: 'r'.repeat(4000), differs };
  for (const id of ['a', 'b', 'c', 'd', 'e']) await findings.keep({ ...REPORT, ...said, id: id.repeat(36) });
  const others = { barred: 'x'.repeat(500), files: 'y'.repeat(700) };
  await tracker.saveIdentity({ notes: { ...tracker.identity.notes, ...others } });
  const later = await opened(afterPowerCut(platform));
  expect(later.tracker.identity.notes).toMatchObject(others);
  expect(later.findings.untold.map(({ id }) => id[0])).toEqual(['b', 'c', 'd', 'e']);
});
