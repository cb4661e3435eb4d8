import { silentLogger } from '@rephub/platform';
import { type Line } from '@rephub/protocol';
import { SeededRandomness, SimClock, SimFiles } from '@rephub/platform/sim';
import { beforeEach, describe, expect, it } from 'vitest';
import { DecisionLog } from './decisions.js';
import { type Decided, groupPaths, readDecisions } from './group-lines.js';
import { MainLine } from './main-line.js';
import { Room } from './room.js';
import { DIRECTORY } from './testing/store-kit.js';

const ONE = lineOf('00000000-0000-4000-8000-00000000000a');
const TWO = lineOf('00000000-0000-4000-8000-00000000000b');
const THREE = lineOf('00000000-0000-4000-8000-00000000000c');
const PATHS = groupPaths(DIRECTORY);

function lineOf(id: string): Line {
  return { id, parent: null };
}

interface Opened {
  readonly main: MainLine;
  readonly decisions: DecisionLog;
  readonly decided: Decided;
  /** What the group was told, in order. */
  readonly told: string[];
}

async function open(files: SimFiles): Promise<Opened> {
  const clock = new SimClock();
  await files.makeDirectory(PATHS.group);
  const { log: decisions, decisions: stored } = await DecisionLog.open(files, PATHS.decisions, 'vm1');
  const decided = readDecisions(stored);
  const told: string[] = [];
  const main: MainLine = new MainLine({
    platform: { clock, files, randomness: new SeededRandomness(1) },
    options: {
      directory: DIRECTORY,
      group: 'vm1',
      hubId: '00000000-0000-4000-8000-000000000009',
      retentionMs: 0,
      indexBytes: 1 << 20,
      log: silentLogger,
    },
    paths: PATHS,
    decisions,
    decided,
    room: new Room({
      clock,
      files,
      log: silentLogger,
      path: DIRECTORY,
      reserveBytes: undefined,
      looked: () => undefined,
    }),
    events: {
      progressed: () => undefined,
      congested: () => undefined,
      waits: () => undefined,
      failed: () => undefined,
    },
    opened: ({ line }) => told.push(`opened ${line.id.slice(-1)}`),
    isOwned: () => true,
    leaving: async (why) => {
      await Promise.resolve();
      told.push(`left ${main.store?.line.id.slice(-1) ?? 'nothing'}: ${why}`);
    },
  });
  await main.open();
  return { main, decisions, decided, told };
}

async function close({ main, decisions }: Opened): Promise<void> {
  await main.close('over', false);
  await decisions.close();
}

describe('MainLine', () => {
  let files: SimFiles;
  beforeEach(() => {
    files = new SimFiles();
  });

  it('is none before the first one begins, and the same one after a restart', async () => {
    const opened = await open(files);
    expect(opened.main.store).toBeNull();
    await opened.main.begin(ONE);
    expect(opened.main.store?.line).toEqual(ONE);
    await close(opened);
    expect(opened.main.store).toBeNull();
    const again = await open(files);
    expect([again.main.store?.line, again.told]).toEqual([ONE, ['opened a']]);
    expect(again.main.begunUnixMs).toBe(opened.main.begunUnixMs);
    await close(again);
  });

  it('is changed by one line after the other, and whatever rests on it lets go first', async () => {
    const opened = await open(files);
    const { main, told } = opened;
    await Promise.all([main.begin(ONE), main.begin(TWO), main.begin(TWO), main.begin(THREE)]);
    const why = 'another line of history begins';
    expect(told).toEqual([
      `left nothing: ${why}`,
      'opened a',
      `left a: ${why}`,
      'opened b',
      `left b: ${why}`,
      'opened c',
    ]);
    await close(opened);
  });

  it('is the one that was decided, wherever the beginning of another is cut short (NODISCARD)', async () => {
    const first = await open(files);
    await first.main.begin(ONE);
    await close(first);
    const start = files.snapshot('/data');
    const seen = new Set<string>();
    let isCrashed = true;
    for (let change = 1; isCrashed; change += 1) {
      const cut = new SimFiles();
      cut.restore('/data', start);
      const opened = await open(cut);
      isCrashed = false;
      cut.onCrash = () => (isCrashed = true);
      cut.crashAt(cut.changes + change);
      await opened.main.begin(TWO).catch(() => undefined);
      const after = cut.crash({ seed: change, fate: 'mixed' });
      const again = await open(after);
      expect(again.main.store?.line).toEqual(again.decided.line);
      seen.add(again.main.store?.line.id ?? '');
      if (again.decided.line?.id === TWO.id) expect(await after.list(`${PATHS.lines}/${ONE.id}`)).toContain('base');
      await close(again);
    }
    expect([...seen]).toEqual([ONE.id, TWO.id]);
  });

  it('is put aside when it cannot be believed, which is said until a new one has a point', async () => {
    const first = await open(files);
    await first.main.begin(ONE);
    await close(first);
    const applied = await files.open(`${PATHS.base}/applied`, 'write');
    const { sizeBytes } = await applied.status();
    await applied.write([Buffer.alloc(sizeBytes, 0xee)], 0);
    await applied.close();
    const opened = await open(files);
    expect([opened.main.store, opened.told]).toEqual([null, []]);
    await close(opened);
    const again = await open(files);
    expect(again.main.setAsideWhy).toBe(opened.main.setAsideWhy);
    expect(again.main.setAsideWhy).not.toBeNull();
    await again.main.begin(TWO);
    expect(again.main.setAsideWhy).not.toBeNull();
    again.main.forgetSetAside();
    expect(again.main.setAsideWhy).toBeNull();
    await close(again);
  });

  it('takes seeds as long as there has never been one', async () => {
    const opened = await open(files);
    const image = await files.open('/image.raw', 'create');
    await image.write([Buffer.alloc(4096, 1)], 0);
    await image.close();
    expect(await opened.main.seed('root', '/image.raw')).toEqual({ volume: 'root', sizeBytes: 4096 });
    const beginning = opened.main.begin(ONE);
    await expect(opened.main.seed('data', '/image.raw')).rejects.toMatchObject({ code: 'has-history' });
    await beginning;
    expect(opened.main.seeds).toEqual([{ volume: 'root', sizeBytes: 4096 }]);
    await opened.main.begin(TWO);
    expect(opened.main.seeds).toEqual([]);
    await close(opened);
  });
});
