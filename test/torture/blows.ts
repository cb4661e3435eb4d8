/**
 * What is done to the stage: one blow at a time per target, several targets at once, each healed after a while. Which blow,
 * on whom, for how long and after how long comes from the seed alone; when it lands is up to the machine.
 *
 * Always holds: every kind comes once before any comes twice (a shuffled deck); when `heal` has resolved all targets are up
 * and the network passes everything.
 */
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type SeededRandomness } from '@rephub/platform/sim';
import { leaveFree } from '../kit/small-disk.js';
import { type Actor } from './actors.js';
import { type Stage } from './stage.js';

const KINDS = [
  'agent-killed',
  'agent-stopped',
  'agent-restarted',
  'agent-paused-by-operator',
  'hub-killed',
  'hub-stopped',
  'hub-restarted',
  'hub-disk-filled',
  'both-killed',
  'upstream-killed',
  'upstream-stopped',
  'upstream-restarted',
  'link-cut',
  'link-cut-in-a-frame',
  'link-stalled',
  'link-slowed',
  'link-refused',
  'mode-changed',
  'resync-asked-for',
  'compare-asked-for',
  'verified',
  'point-judged',
  'failover-tested',
] as const;
export type Kind = (typeof KINDS)[number];

type Target = 'agent' | 'hub' | 'disk' | 'upstream' | 'link';

const TARGETS: Readonly<Record<Kind, readonly Target[]>> = {
  'agent-killed': ['agent'],
  'agent-stopped': ['agent'],
  'agent-restarted': ['agent'],
  'agent-paused-by-operator': ['agent'],
  'hub-killed': ['hub'],
  'hub-stopped': ['hub'],
  'hub-restarted': ['hub'],
  'hub-disk-filled': ['disk'],
  'both-killed': ['agent', 'hub'],
  'upstream-killed': ['upstream'],
  'upstream-stopped': ['upstream'],
  'upstream-restarted': ['upstream'],
  'link-cut': ['link'],
  'link-cut-in-a-frame': ['link'],
  'link-stalled': ['link'],
  'link-slowed': ['link'],
  'link-refused': ['link'],
  'mode-changed': ['agent'],
  'resync-asked-for': ['hub'],
  'compare-asked-for': ['agent'],
  verified: ['agent'],
  'point-judged': ['hub'],
  'failover-tested': ['hub'],
};

/** What needs more than a signal. */
export interface Acts {
  readonly pause: () => Promise<void>;
  readonly resume: () => Promise<void>;
  readonly mode: (which: number) => Promise<void>;
  readonly resync: () => Promise<void>;
  readonly compare: () => Promise<void>;
  readonly verify: () => Promise<void>;
  readonly judgePoint: () => Promise<void>;
  readonly failoverTest: () => Promise<void>;
}

export interface BlowsOptions {
  readonly stage: Stage;
  readonly dice: SeededRandomness;
  /** Outages and pauses are so many times shorter. */
  readonly haste: number;
  readonly acts: Acts;
  readonly violated: (what: string) => void;
  readonly said: (what: string) => void;
}

/** Nothing passes: up, down, or neither way. */
const STALLS = [['up'], ['down'], []] as const;

/** Around the half of the reserve: the journal stops there, tests before. */
const MOST_LEFT_BYTES = 96 << 20;
/** Between two blows on one target, so that something happens there in between. */
const CALM_MS = 400;

interface Blow {
  readonly kind: Kind;
  readonly lengthMs: number;
  /** A second decision: which upstream, how many bytes, which way; below 2^31. */
  readonly which: number;
  readonly pauseMs: number;
}

export class Blows {
  readonly counts: Record<Kind, number>;
  /** Decks gone through. */
  rounds = 0;
  readonly #options: BlowsOptions;
  readonly #kinds: readonly Kind[];
  #deck: Kind[] = [];
  readonly #busy = new Map<Target, Promise<void>>();

  constructor(options: BlowsOptions) {
    this.#options = options;
    this.counts = Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>;
    const hasUpstreams = options.stage.upstreamActors.length > 0;
    this.#kinds = KINDS.filter((kind) => hasUpstreams || !TARGETS[kind].includes('upstream'));
  }

  /** Goes on until the time is over and every kind has come. */
  async rain(forMs: number): Promise<void> {
    const until = performance.now() + forMs;
    while (performance.now() < until || this.rounds === 0) {
      const blow = this.#draw();
      const targets = TARGETS[blow.kind];
      for (const target of targets) await this.#busy.get(target);
      this.#options.said(`${blow.kind}, ${(blow.lengthMs / 1000).toFixed(1)} s`);
      this.counts[blow.kind] += 1;
      const landed = this.#land(blow).then(
        async () => {
          await delay(CALM_MS);
        },
        (error: unknown) => {
          this.#options.violated(`${blow.kind}: ${error instanceof Error ? error.message : String(error)}`);
        },
      );
      for (const target of targets) this.#busy.set(target, landed);
      if (this.#deck.length === 0) this.rounds += 1;
      await delay(blow.pauseMs);
    }
  }

  /** Resolves when nothing is down, held or slowed any more. */
  async heal(): Promise<void> {
    await Promise.all(this.#busy.values());
    this.#options.stage.proxy.pass();
  }

  #draw(): Blow {
    const { dice, haste } = this.#options;
    if (this.#deck.length === 0) {
      this.#deck = [...this.#kinds];
      for (let at = this.#deck.length - 1; at > 0; at -= 1) {
        const other = dice.below(at + 1);
        const [a, b] = [this.#deck[at], this.#deck[other]];
        if (a !== undefined && b !== undefined) [this.#deck[at], this.#deck[other]] = [b, a];
      }
    }
    const kind = this.#deck.pop() ?? 'link-cut';
    // Mostly short, now and then longer than the heartbeat's timeout of 5 s.
    const lengthMs = (100 + 6500 * dice.fraction() ** 3) / haste;
    return { kind, lengthMs, which: dice.below(2 ** 31), pauseMs: (50 + 1800 * dice.fraction() ** 2) / haste };
  }

  async #land({ kind, lengthMs, which }: Blow): Promise<void> {
    const { stage, acts } = this.#options;
    const { agentActor: agent, hubActor: hub, proxy } = stage;
    const upstream = stage.upstreamActors[which % Math.max(1, stage.upstreamActors.length)];
    const hold = async (): Promise<void> => {
      await delay(lengthMs);
    };
    switch (kind) {
      case 'agent-killed':
        await killed([agent], hold);
        break;
      case 'hub-killed':
        await killed([hub], hold);
        break;
      case 'both-killed':
        await killed([agent, hub], hold);
        break;
      case 'hub-disk-filled':
        await this.#fill(which % MOST_LEFT_BYTES, hold);
        break;
      case 'agent-stopped':
        await stopped([agent], hold);
        break;
      case 'hub-stopped':
        await stopped([hub], hold);
        break;
      case 'agent-restarted':
        await restarted([agent], hold);
        break;
      case 'hub-restarted':
        await restarted([hub], hold);
        break;
      case 'upstream-killed':
        await this.#away(upstream, killed, hold);
        break;
      case 'upstream-stopped':
        await this.#away(upstream, stopped, hold);
        break;
      case 'upstream-restarted':
        await this.#away(upstream, restarted, hold);
        break;
      case 'agent-paused-by-operator':
        await acts.pause();
        await hold();
        await acts.resume();
        break;
      case 'link-cut':
        proxy.cut();
        break;
      case 'link-cut-in-a-frame':
        proxy.cutAfter(1 + (which % 50_000), (which & 1) === 0 ? 'up' : 'down');
        await hold();
        break;
      case 'link-stalled':
        proxy.swallow(...(STALLS[which % STALLS.length] ?? []));
        await hold();
        proxy.pass();
        break;
      case 'link-slowed':
        proxy.delay(1 + (which % 60));
        await hold();
        proxy.pass();
        break;
      case 'link-refused':
        proxy.refuse();
        await hold();
        proxy.pass();
        break;
      case 'mode-changed':
        await acts.mode(which);
        break;
      case 'resync-asked-for':
        await acts.resync();
        break;
      case 'compare-asked-for':
        await acts.compare();
        break;
      case 'verified':
        await acts.verify();
        break;
      case 'point-judged':
        await acts.judgePoint();
        break;
      case 'failover-tested':
        await acts.failoverTest();
        break;
    }
  }

  async #fill(leftBytes: number, hold: () => Promise<void>): Promise<void> {
    const { disk } = this.#options.stage;
    disk.fills += 1;
    disk.isFull = true;
    try {
      const filler = await leaveFree(disk.dir, leftBytes);
      await hold();
      await rm(filler, { force: true });
    } finally {
      disk.isFull = false;
    }
  }

  async #away(upstream: Actor | undefined, how: Treatment, hold: () => Promise<void>): Promise<void> {
    const { stage } = this.#options;
    if (upstream === undefined) throw new Error('there is no upstream process');
    stage.away.lost += 1;
    stage.away.now += 1;
    try {
      await how([upstream], hold);
    } finally {
      stage.away.now -= 1;
    }
  }
}

type Treatment = (actors: readonly Actor[], hold: () => Promise<void>) => Promise<void>;

const killed: Treatment = async (actors, hold) => {
  await Promise.all(actors.map(async (actor) => await actor.kill()));
  await hold();
  for (const actor of actors) await actor.start();
};

const stopped: Treatment = async (actors, hold) => {
  for (const actor of actors) await actor.pause();
  try {
    await hold();
  } finally {
    for (const actor of actors) actor.resume();
  }
};

const restarted: Treatment = async (actors, hold) => {
  for (const actor of actors) await actor.stop();
  await hold();
  for (const actor of actors) await actor.start();
};
