/**
 * What is done in a run, derived from its seed: how the world is set up, and a list of timed steps. Every
 * step carries a seed of its own, so that a step left out (`--shrink`) changes nothing of the others.
 */
import { SeededRandomness } from '@rephub/platform/sim';
import { type Profile, PROFILES, type Sequence, type SequenceName, SEQUENCES } from './profiles.js';
import { type StepKind } from './step-kinds.js';

export interface VolumeSetup {
  readonly name: string;
  /** At first. */
  readonly blocks: number;
  /** It may grow to so many. */
  readonly largestBlocks: number;
  readonly upstream: 'file' | 'nbd';
}

export interface Setup {
  readonly seed: number;
  readonly volumes: readonly VolumeSetup[];
  /** Blocks that hold something before anything starts. */
  readonly presetBlocks: number;
  readonly granularityBytes: number;
  readonly windowBytes: number;
  readonly hotExtents: number;
  readonly onCongestion: 'pull-ahead' | 'block';
  readonly maxBytesPerSecond: number | null;
  readonly retentionMs: number;
  readonly segmentBytes: number;
  readonly linkLatencyMs: number;
  /** Each piece on the link takes up to so much longer; each between guest, agent and upstream up to a tenth of that. */
  readonly jitterMs: number;
  /** What the NBD upstream can do besides the common. */
  readonly fua: boolean;
  readonly fastZero: boolean;
  readonly allocation: boolean;
  /** The second volume exists from the agent's second start on. */
  readonly lateVolume: boolean;
  /** What goes over the link; `auto` when left out. */
  readonly compress?: 'auto' | 'off' | 'lz4';
  /** Until a step changes it, or from the agent's next start on. */
  readonly mode: 'async' | 'semi-sync' | 'sync';
  readonly onDisconnect: 'continue' | 'freeze';
  readonly durability: 'host' | 'process';
  /** The guest flushes hardly ever. */
  readonly rareFlushes: boolean;
  /** So long the NBD upstream takes to make stable what its cache holds; next to nothing when left out. */
  readonly syncMs?: number;
  /** So much longer a sync takes on the hub's disk than on the agent's. */
  readonly hubSyncMs?: number;
  /** What the agent keeps of unflushed writes; its default when left out. */
  readonly replayBytes?: number;
}

export interface Step {
  readonly atMs: number;
  readonly kind: StepKind;
  readonly seed: number;
}

export interface Script {
  readonly setup: Setup;
  readonly lengthMs: number;
  readonly steps: readonly Step[];
}

/** How often each kind is drawn, against the others. */
const WEIGHTS: Partial<Record<StepKind, number>> = {
  'cut-link': 6,
  'cut-link-at-byte': 4,
  'half-open': 3,
  'one-way': 2,
  'delayed-reset': 3,
  'silence-hub': 4,
  'slow-link': 3,
  'drip-link': 2,
  'spoil-frame': 2,
  'kill-agent': 4,
  'power-agent': 4,
  'end-agent': 3,
  'kill-hub': 4,
  'power-hub': 5,
  'end-hub': 2,
  'power-both': 3,
  'pause-agent': 2,
  'pause-hub': 2,
  'pause-upstream': 2,
  'kill-upstream': 2,
  'power-upstream': 3,
  'cut-upstream': 2,
  'upstream-other-size': 1,
  'upstream-read-only': 1,
  'upstream-write-errors': 2,
  'upstream-flush-error': 1,
  'upstream-unreadable': 2,
  'upstream-slow': 2,
  'grow-upstream': 4,
  'hub-disk-full': 2,
  'hub-sync-fails': 2,
  'hub-writes-fail': 2,
  'hub-reads-fail': 2,
  'agent-sync-fails': 2,
  'agent-write-fails': 2,
  'rot-state': 2,
  'rot-hub': 2,
  'rot-running-hub': 2,
  'backup-agent': 2,
  'restore-agent': 2,
  'backup-hub': 2,
  'restore-hub': 2,
  'lose-hub': 1,
  'forget-group': 1,
  'jump-clock': 2,
  'drop-guest': 3,
  'open-test': 4,
  resync: 2,
  verify: 2,
  'change-mode': 2,
  'lose-agent': 1,
  'foreign-agent': 1,
};

const CRASHES: readonly StepKind[] = ['kill-agent', 'power-agent', 'kill-hub', 'power-hub', 'power-both'];
/** With the healing that follows a virtual minute. */
const SCRIPT_MS = 55_000;
/** Every so many seeds have one large, sparse disk. */
const WIDE_EVERY = 16;
export const WIDE_BLOCKS = 18 * 1024;
const ROOM_TO_GROW_BLOCKS = 640;
/** Of a seed; with what its healing reads they make some 1,100 requests. */
const BURSTS = 23;
/** Guest requests of one burst, about. */
export const BURST_REQUESTS = 42;

/** Of so many seeds each sequence has one, beside what is drawn. */
const SEQUENCE_EVERY = 40;
/** Every so many seeds meet failing flushes, and little else: they seldom come up among many faults. */
const FLUSHES_EVERY = 8;
/** Of so many seeds one has marks that are not synced. */
const UNSYNCED_EVERY = 13;
/** Of one seed after the other. */
const JITTERS_MS = [0, 0, 3, 0, 0, 30, 0];
/** Of so many seeds one has a hub whose disk syncs slowly: much is received there and not durable yet. */
const SLOW_HUB_EVERY = 9;
const SLOW_HUB_SYNC_MS = 120;
const SEQUENCE_NAMES = Object.keys(SEQUENCES) as SequenceName[];

export function scriptOf(seed: number, asked?: Profile): Script {
  const profile: Profile = asked ?? (seed % FLUSHES_EVERY === FLUSHES_EVERY - 1 ? PROFILES['failing-flushes'] : {});
  const random = new SeededRandomness(Math.imul(seed, 0x9e37_79b1) ^ 0x5bd1_e995);
  const drawn = SEQUENCE_NAMES[random.below(SEQUENCE_EVERY)];
  const name = profile.sequence ?? drawn;
  const sequence: Sequence | null = name === undefined ? null : SEQUENCES[name];
  const setup = setupOf(seed, random, profile, name);
  const weights = profile.weights ?? WEIGHTS;
  const steps: Step[] = [];
  const lastMs = Math.max(0, ...(sequence?.steps ?? []).map(({ afterMs }) => (sequence?.fromMs ?? 0) + afterMs));
  const add = (atMs: number, kind: StepKind): void => {
    const step = { atMs: Math.round(atMs), kind, seed: random.below(2 ** 31) };
    // A sequence that others would disturb has its time for itself: they come after it.
    if (kind === 'burst' && sequence !== null && isWithin(sequence, step.atMs)) step.atMs += sequence.quietMs;
    if (kind !== 'burst' && sequence?.isAlone === true && step.atMs <= lastMs + 6_000) {
      step.atMs = Math.round(lastMs + 6_000 + (step.atMs / SCRIPT_MS) * (SCRIPT_MS - lastMs - 12_000));
    }
    steps.push(step);
  };
  for (let burst = 0; burst < BURSTS; burst += 1) {
    add(200 + ((SCRIPT_MS - 5000) * (burst + random.fraction())) / BURSTS, 'burst');
  }
  // Some seeds meet many faults, some few: what needs a long quiet time must come up too.
  const faults = 5 + random.below(random.chance(0.3) ? 4 : 14);
  const between = (part: number): number => part * (SCRIPT_MS - 6000) + random.fraction() * 4000;
  for (let fault = 0; fault < faults; fault += 1) add(between(random.fraction()), draw(weights, random));
  add(between(random.fraction()), CRASHES[random.below(CRASHES.length)] ?? 'kill-agent');
  // Faults that come in company, while one of them is still there, find more than lonely ones.
  for (let pair = 0; pair < 2; pair += 1) {
    const at = between(random.fraction());
    add(at, draw(weights, random));
    add(at + random.fraction() ** 3 * 2000, draw(weights, random));
  }
  for (let time = 0; time < (profile.company?.times ?? 0); time += 1) {
    let at = between(random.fraction());
    for (const { withinMs, kind } of profile.company?.steps ?? []) add((at += random.fraction() * withinMs), kind);
  }
  for (const { afterMs, kind } of sequence?.steps ?? []) {
    steps.push({ atMs: (sequence?.fromMs ?? 0) + afterMs, kind, seed: random.below(2 ** 31) });
  }
  steps.sort((a, b) => a.atMs - b.atMs);
  return { setup, lengthMs: SCRIPT_MS, steps };
}

function isWithin({ fromMs, quietMs }: Sequence, atMs: number): boolean {
  return atMs >= fromMs && atMs < fromMs + quietMs;
}

function draw(weights: Partial<Record<StepKind, number>>, random: SeededRandomness): StepKind {
  const entries = Object.entries(weights) as [StepKind, number][];
  let left = random.fraction() * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [kind, weight] of entries) {
    left -= weight;
    if (left < 0) return kind;
  }
  return 'cut-link';
}

function volumeOf(name: string, blocks: number, upstream: VolumeSetup['upstream']): VolumeSetup {
  return { name, blocks, largestBlocks: blocks + ROOM_TO_GROW_BLOCKS, upstream };
}

function setupOf(seed: number, random: SeededRandomness, profile: Profile, sequence: SequenceName | undefined): Setup {
  const pick = <T>(...choices: readonly [T, ...T[]]): T => choices[random.below(choices.length)] ?? choices[0];
  const upstream = profile.upstream ?? pick<'file' | 'nbd' | 'both'>('file', 'nbd', 'nbd', 'both');
  const first = volumeOf('root', pick(384, 768), upstream === 'file' ? 'file' : 'nbd');
  const second = volumeOf('data', 768, upstream === 'nbd' ? 'nbd' : 'file');
  const single = random.chance(0.2);
  // More extents than can be hot at once: marks must be cleared while the guest writes (CLEAR).
  const wide: VolumeSetup = { name: 'root', blocks: WIDE_BLOCKS, largestBlocks: WIDE_BLOCKS, upstream: 'nbd' };
  const isWide = profile.isWide ?? seed % WIDE_EVERY === 0;
  // A first sync that is to be cut takes a while.
  const isSlow = random.chance(0.25) || sequence === 'cut-first-sync';
  return {
    seed,
    volumes: isWide ? [wide] : single ? [first] : [first, second],
    presetBlocks: sequence === 'cut-first-sync' ? 300 : pick(0, 40, 200),
    granularityBytes: pick(4096, 16_384, 65_536),
    windowBytes: pick(64, 256, 1024, 8192) * 1024,
    hotExtents: 16,
    onCongestion: random.chance(0.8) ? 'pull-ahead' : 'block',
    maxBytesPerSecond: isSlow ? (sequence === 'cut-first-sync' ? 1 : 4) * 1024 * 1024 : null,
    retentionMs: pick(0, 0, 2_000, 30_000),
    segmentBytes: pick(1, 4, 64) * 1024 * 1024,
    linkLatencyMs: pick(0.1, 1, 4, 20),
    jitterMs: JITTERS_MS[seed % JITTERS_MS.length] ?? 0,
    fua: random.chance(0.7),
    fastZero: profile.plainTrims !== true && random.chance(0.6),
    allocation: profile.plainTrims !== true && random.chance(0.7),
    lateVolume: !isWide && !single && random.chance(0.15),
    mode: profile.mode ?? pick('async', 'async', 'async', 'semi-sync', 'sync'),
    durability: profile.durability ?? (seed % UNSYNCED_EVERY === UNSYNCED_EVERY - 1 ? 'process' : 'host'),
    onDisconnect: profile.onDisconnect ?? (random.chance(0.12) ? 'freeze' : 'continue'),
    rareFlushes: profile.rareFlushes ?? random.chance(0.1),
    syncMs: profile.syncMs ?? pick(0, 0, 0, 0, 10, 150),
    hubSyncMs: profile.hubSyncMs ?? (seed % SLOW_HUB_EVERY === 0 ? SLOW_HUB_SYNC_MS : 0),
    ...(profile.replayBytes === undefined ? {} : { replayBytes: profile.replayBytes }),
  };
}
