/**
 * The short scripts that are crashed at each of their I/Os, and the loop that does it. A script goes on through
 * crashes of the hub's host, as a guest does; it ends where the agent's host, and the guest with it, goes.
 */
import type { CrashFate } from '@rephub/platform/sim';
import { type Beginning, blank, inStep, type Setting } from './beginning.js';
import { type Fate } from './host.js';
import { HostCrashed, World } from './kit.js';
import { PAGE } from './pages.js';

const MIB = 1024 * 1024;
const PAGES_PER_EXTENT = (4 * MIB) / PAGE;

export interface Script {
  readonly name: string;
  /** Agent and hub are running and in step when it begins; else nothing runs and nothing was ever synced. */
  readonly begins: 'in step' | 'blank';
  readonly setting?: Partial<Setting['agent']>;
  /** 16 MiB when left out. */
  readonly diskBytes?: number;
  /** Volumes beside the first one, 1 MiB each. */
  readonly others?: readonly string[];
  /** Extents of the first volume that it writes to; a crash may find no others marked. Null: all may be. */
  readonly extents: readonly number[] | null;
  run(world: World): Promise<void>;
}

export const SCRIPTS: readonly Script[] = [
  {
    name: 'a first sync, with writes into it',
    begins: 'blank',
    extents: null,
    async run(world: World): Promise<void> {
      world.startHub();
      await world.startAgent();
      await world.run(world.guest.write(0, 3));
      const writing = [world.guest.write(16, 40), world.guest.write(2, 4), world.guest.flush()];
      await world.run(Promise.all(writing));
      await world.protected();
      await world.run(world.guest.write(1, 1, true));
    },
  },
  {
    name: 'a burst of writes with flushes',
    begins: 'in step',
    extents: [0, 2],
    async run(world: World): Promise<void> {
      const { guest } = world;
      const burst = [0, 3, 2, 40, 41, 2 * PAGES_PER_EXTENT].map((page) => guest.write(page, 2 + (page % 3)));
      await world.run(Promise.all([...burst, guest.flush()]));
      await world.run(guest.write(4, 2, true));
      await world.run(Promise.all([guest.write(100, 1), guest.write(100, 2), guest.flush(), guest.write(101, 1)]));
      await world.run(guest.flush());
      await world.protected();
      await world.pass(6_000);
      await world.run(guest.write(4, 1));
    },
  },
  {
    name: 'a window that overflows, and the span after it',
    begins: 'in step',
    setting: { windowBytes: 256 * 1024 },
    extents: [0, 1],
    async run(world: World): Promise<void> {
      const { guest } = world;
      world.silenceHub(true);
      for (let round = 0; round < 6; round += 1) await world.run(guest.write(20 * round, 16));
      await world.run(guest.write(PAGES_PER_EXTENT, 4));
      await world.run(guest.flush());
      await world.pass(6_000);
      world.silenceHub(false);
      await world.until(() => world.agent?.status().resync !== null || world.agent.status().lagBytes === 0, 20_000);
      await world.run(Promise.all([guest.write(4, 3), guest.write(PAGES_PER_EXTENT + 2, 3)]));
      await world.protected();
      await world.pass(3_000);
    },
  },
  {
    name: 'writes to more extents than can be hot, and a hub whose disk is slow',
    begins: 'in step',
    diskBytes: 80 * MIB,
    extents: Array.from({ length: 20 }, (_, extent) => extent),
    async run(world: World): Promise<void> {
      const { guest } = world;
      world.hubSyncMs = 300;
      for (let extent = 0; extent < 20; extent += 4) {
        const writes = [0, 1, 2, 3].map((more) => guest.write((extent + more) * PAGES_PER_EXTENT + 5, 2));
        await world.run(Promise.all(writes));
        await world.run(guest.flush());
      }
      await world.run(Promise.all([guest.write(6, 1), guest.write(PAGES_PER_EXTENT + 6, 1)]));
      world.hubSyncMs = 0;
      await world.protected();
    },
  },
  {
    name: 'a hub that stops and starts',
    begins: 'in step',
    extents: [0],
    async run(world: World): Promise<void> {
      const { guest } = world;
      await world.run(guest.write(8, 4));
      const writing = guest.write(10, 8);
      await world.stopHub();
      await world.run(writing);
      await world.run(guest.write(0, 2, true));
      world.startHub();
      await world.run(guest.write(1, 2));
      await world.hubIsUp();
      await world.protected();
      await world.run(guest.write(30, 1));
    },
  },
  {
    name: 'an agent that stops and starts',
    begins: 'in step',
    extents: [0],
    async run(world: World): Promise<void> {
      await world.run(world.guest.write(8, 4));
      await world.run(Promise.all([world.guest.write(30, 4), world.guest.flush()]));
      await world.stopAgent();
      await world.startAgent();
      await world.run(world.guest.write(9, 2));
      await world.protected();
    },
  },
  {
    name: 'a failover test beside the stream',
    begins: 'in step',
    extents: [0],
    async run(world: World): Promise<void> {
      const { guest } = world;
      await world.run(guest.write(0, 4, true));
      await world.protected();
      await world.hubIsUp();
      const { crashes, kills } = world;
      const test = world.failoverTest();
      await world.run(guest.write(1, 2));
      await world.until(() => test.isOver || world.crashes > crashes || world.kills > kills);
      await world.run(guest.write(2, 1));
    },
  },
  {
    name: 'trims and zeroes',
    begins: 'in step',
    extents: [0, 1],
    async run(world: World): Promise<void> {
      const { guest } = world;
      await world.run(Promise.all([guest.zero(0, 8), guest.trim(16, 32)]));
      await world.run(guest.write(18, 4));
      await world.run(Promise.all([guest.trim(17, 3), guest.write(40, 2), guest.zero(PAGES_PER_EXTENT - 8, 16)]));
      await world.run(guest.flush());
      await world.run(Promise.all([guest.write(0, 1), guest.zero(0, 2), guest.trim(1, 2)]));
      await world.protected();
    },
  },
  {
    name: 'a volume that is added',
    begins: 'in step',
    extents: [0],
    async run(world: World): Promise<void> {
      await world.run(world.guest.write(0, 2));
      await world.stopAgent();
      world.listVolumes(['disk0', 'disk1']);
      await world.startAgent();
      await world.run(Promise.all([world.guest.write(1, 2), world.guests[1]?.write(3, 20)]));
      await world.protected();
      await world.run(Promise.all([world.guest.flush(), world.guests[1]?.flush()]));
    },
  },
  {
    name: 'a volume that goes from the middle, and one that comes in front',
    begins: 'in step',
    others: ['disk2', 'disk3'],
    extents: [0],
    async run(world: World): Promise<void> {
      await world.run(Promise.all(world.guests.map((guest, at) => guest.write(at, 2))));
      await world.stopAgent();
      world.listVolumes(['disk1', 'disk3', 'disk0']);
      await world.startAgent();
      await world.run(Promise.all(world.guests.map((guest, at) => guest.write(3 + at, 20))));
      await world.protected();
      await world.run(Promise.all(world.guests.map((guest) => guest.flush())));
    },
  },
];

const PAGES_WITH_DATA = [0, 1, 2, 17, 40, 100, PAGES_PER_EXTENT - 1, PAGES_PER_EXTENT, 3 * PAGES_PER_EXTENT];

async function beginningOf(script: Script): Promise<Beginning> {
  const setting: Setting = {
    volumes: [
      { name: 'disk0', sizeBytes: script.diskBytes ?? 16 * MIB },
      ...(script.others ?? []).map((name) => ({ name, sizeBytes: MIB })),
    ],
    spare: { name: 'disk1', sizeBytes: MIB },
    agent: { windowBytes: MIB, ...script.setting },
  };
  return script.begins === 'blank' ? await blank(setting, PAGES_WITH_DATA) : await inStep(setting, PAGES_WITH_DATA);
}

const FATES: readonly Fate[] = [
  'mixed',
  'lose',
  'tear',
  'garble',
  'keep',
  // Upstream has it all and the marks are at their oldest, and the other way round.
  (path: string): CrashFate => (path.startsWith('/state') ? 'lose' : 'keep'),
  (path: string): CrashFate => (path.startsWith('/state') ? 'keep' : 'lose'),
];

/** What becomes of unsynced changes: each of the fates in turn, from point to point. */
export function fateAt(point: number): Fate {
  return FATES[point % FATES.length] ?? 'mixed';
}

/** How a script is disturbed: `arm` is called when it is about to begin. */
export interface Disturbance {
  readonly name: string;
  arm(world: World, point: number): void;
  /** Called when the script has been cut, before anything starts again. */
  again?(world: World, point: number): void;
}

/** Another number makes other timings and other crashes: REPHUB_CRASH_SEED. */
export const SEED = Number(process.env['REPHUB_CRASH_SEED'] ?? 0);

/** Disturbs the script at its 1st, 2nd, … point until it completes undisturbed; returns how many points there were. */
export async function disturbEverywhere(script: Script, disturbance: Disturbance, stride = 1): Promise<number> {
  const beginning = await beginningOf(script);
  for (let point = 1; ; point += stride) {
    const seed = SEED + point;
    const world = new World(beginning, seed);
    try {
      if (await isCompleted(world, script, disturbance, point)) return point - 1;
    } catch (thrown) {
      throw new Error(`${script.name}: ${disturbance.name} at point ${point} (REPHUB_CRASH_SEED=${SEED})`, {
        cause: thrown,
      });
    }
  }
}

async function isCompleted(world: World, script: Script, disturbance: Disturbance, point: number): Promise<boolean> {
  if (script.begins === 'in step') {
    world.startHub();
    await world.startAgent();
    await world.protected();
  }
  if (script.extents !== null) world.expectMarksOnlyIn(new Set(script.extents));
  disturbance.arm(world, point);
  try {
    await script.run(world);
  } catch (thrown) {
    if (!(thrown instanceof HostCrashed)) throw thrown;
  }
  world.sparesProcesses();
  if (world.crashes > 0) disturbance.again?.(world, point);
  for (;;) {
    try {
      // The point may lie behind the script's end, too.
      if (world.crashes > 0) await world.recover();
      await world.converge();
      if (world.crashes + world.kills === 0) return true;
      await world.run(Promise.all([world.guest.write(3, 2), world.guest.flush()]));
      await world.converge();
      return false;
    } catch (thrown) {
      if (!(thrown instanceof HostCrashed)) throw thrown;
    }
  }
}
