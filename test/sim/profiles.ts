/**
 * What single draws would hardly ever make: sequences of steps that lead to something rare, and profiles that bias a seed
 * towards what a planted bug breaks. A few seeds of every run have a sequence; a profile is asked for by name.
 *
 * Must not know: what the steps do.
 */
import { type StepKind } from './step-kinds.js';

export interface Sequence {
  /** When the first step is due. */
  readonly fromMs: number;
  readonly steps: readonly { readonly afterMs: number; readonly kind: StepKind }[];
  /** For so long after its first step the guest does nothing. */
  readonly quietMs: number;
  /** Nothing else happens before it is over. */
  readonly isAlone: boolean;
}

export const SEQUENCES = {
  /** Marks are cleared in a quiet time and rest on what the hub loses when it comes back older (L9). */
  'older-hub': {
    fromMs: 14_000,
    quietMs: 15_000,
    isAlone: true,
    steps: [
      { afterMs: -6_000, kind: 'backup-hub' },
      { afterMs: -4_000, kind: 'burst' },
      { afterMs: -2_000, kind: 'burst' },
      { afterMs: 14_000, kind: 'restore-hub' },
    ],
  },
  /** The agent comes back with the state of an earlier session (L4). */
  'older-agent': {
    fromMs: 20_000,
    quietMs: 0,
    isAlone: false,
    steps: [
      { afterMs: 0, kind: 'backup-agent' },
      { afterMs: 1_000, kind: 'kill-agent' },
      { afterMs: 9_500, kind: 'restore-agent' },
    ],
  },
  /** The first sync is cut, and then the agent's marks are lost (L13, L17). */
  'cut-first-sync': {
    fromMs: 120,
    quietMs: 0,
    isAlone: true,
    steps: [
      { afterMs: 0, kind: 'kill-agent' },
      { afterMs: 6_800, kind: 'rot-state' },
      { afterMs: 7_600, kind: 'rot-state' },
      { afterMs: 8_400, kind: 'rot-state' },
    ],
  },
  /** A clean start: the guest writes before agent and hub have found each other equal (L15). */
  'clean-start': {
    fromMs: 12_000,
    quietMs: 9_000,
    isAlone: true,
    steps: [
      { afterMs: 7_400, kind: 'slow-link' },
      { afterMs: 7_500, kind: 'end-agent' },
      { afterMs: 7_900, kind: 'burst' },
      { afterMs: 8_000, kind: 'burst' },
    ],
  },
  /** The hub loses what it has received and not stored, right before the agent's host loses power (CLEAR). */
  'both-lose': {
    fromMs: 25_000,
    quietMs: 0,
    isAlone: false,
    steps: [
      { afterMs: 0, kind: 'burst' },
      { afterMs: 30, kind: 'power-hub' },
      { afterMs: 40, kind: 'power-agent' },
    ],
  },
  /** The agent is started while its upstream shows itself as a smaller disk (SIZE). */
  'smaller-at-start': {
    fromMs: 30_000,
    quietMs: 0,
    isAlone: false,
    steps: [
      { afterMs: 0, kind: 'upstream-other-size' },
      { afterMs: 250, kind: 'kill-agent' },
    ],
  },
} as const satisfies Record<string, Sequence>;
export type SequenceName = keyof typeof SEQUENCES;

export interface Profile {
  /** Instead of the usual ones. */
  readonly weights?: Partial<Record<StepKind, number>>;
  readonly sequence?: SequenceName;
  /** One large disk with more extents than can be hot. */
  readonly isWide?: boolean;
  /** The guest flushes hardly ever. */
  readonly rareFlushes?: boolean;
  /** A flush of upstream takes so long: what is not flushed yet stays so for a while. */
  readonly syncMs?: number;
  /** A sync at the hub takes so long: much is received there and not durable yet. */
  readonly hubSyncMs?: number;
  /** What upstream holds after a trim must be read again, while the guest writes there. */
  readonly plainTrims?: boolean;
  readonly mode?: 'async' | 'semi-sync' | 'sync';
  readonly onDisconnect?: 'continue' | 'freeze';
  readonly upstream?: 'file' | 'nbd' | 'both';
  /** Marks are not synced: after a loss of power none is believed. */
  readonly durability?: 'host' | 'process';
  /** So much the agent keeps of what is not flushed. */
  readonly replayBytes?: number;
  /** Steps that come one soon after the other, so many times in a seed, beside what is drawn. */
  readonly company?: {
    readonly times: number;
    readonly steps: readonly { readonly withinMs: number; readonly kind: StepKind }[];
  };
}

const FAILING_FLUSHES = {
  upstream: 'nbd',
  company: {
    times: 5,
    steps: [
      { withinMs: 0, kind: 'burst' },
      { withinMs: 40, kind: 'upstream-write-errors' },
      { withinMs: 800, kind: 'upstream-flush-error' },
    ],
  },
  weights: {
    'upstream-flush-error': 6,
    'upstream-write-errors': 5,
    'power-upstream': 4,
    'cut-upstream': 2,
    'kill-agent': 2,
    'power-agent': 1,
    'upstream-read-only': 1,
    'cut-link': 1,
  },
} as const satisfies Profile;

export const PROFILES = {
  'older-hub': { sequence: 'older-hub' },
  'cut-first-sync': { sequence: 'cut-first-sync' },
  wide: { isWide: true, rareFlushes: true, syncMs: 150 },
  'failing-state': { isWide: true, weights: { 'agent-sync-fails': 6, 'agent-write-fails': 6, 'kill-agent': 2 } },
  /** What of the agent's marks was stored rots, while much is marked. */
  'rotting-state': {
    isWide: true,
    company: {
      times: 10,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 200, kind: 'silence-hub' },
        { withinMs: 1000, kind: 'rot-state' },
        { withinMs: 1000, kind: 'rot-state' },
        { withinMs: 1000, kind: 'rot-state' },
      ],
    },
    weights: { 'silence-hub': 2, 'cut-link': 2, 'power-agent': 1 },
  },
  'failing-disk': { weights: { 'upstream-write-errors': 10, 'upstream-unreadable': 4, 'kill-agent': 1 } },
  'ending-agent': { isWide: true, weights: { 'end-agent': 6, 'power-hub': 4, 'kill-hub': 2, 'silence-hub': 2 } },
  'clean-start': { sequence: 'clean-start' },
  trimming: { plainTrims: true, weights: { 'upstream-slow': 6, resync: 2, 'cut-link': 1 } },
  'another-disk': { weights: { 'upstream-other-size': 8, 'kill-agent': 1, 'cut-upstream': 1 } },
  synchronous: { mode: 'sync' },
  /** Answers wait for what the hub has received, flushes for what is durable there. */
  received: { mode: 'semi-sync' },
  frozen: { onDisconnect: 'freeze', weights: { 'kill-hub': 4, 'cut-link': 4, 'silence-hub': 2, 'kill-agent': 1 } },
  'lost-upstream': { upstream: 'nbd', weights: { 'kill-upstream': 6, 'power-upstream': 4, 'cut-upstream': 4 } },
  /** The hub tells what it has received before it is durable there. */
  'told-on-receipt': {
    mode: 'semi-sync',
    isWide: true,
    hubSyncMs: 400,
    weights: { 'power-both': 4, 'power-hub': 4, 'kill-agent': 2, 'cut-link': 2 },
  },
  'lost-agent': { weights: { 'lose-agent': 4, 'power-hub': 1, 'cut-link': 2 } },
  /** What the lost one wrote, the new one finds, and a power cut takes away. */
  'lost-agent-and-power': {
    upstream: 'nbd',
    rareFlushes: true,
    company: {
      times: 6,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 300, kind: 'lose-agent' },
        { withinMs: 1500, kind: 'power-upstream' },
        { withinMs: 10, kind: 'kill-agent' },
      ],
    },
    weights: { 'lose-agent': 2, 'power-upstream': 2, 'power-both': 1, 'power-agent': 1 },
  },
  'full-hub': { weights: { 'hub-disk-full': 10, 'kill-agent': 1, 'cut-link': 1 } },
  'unread-hub': { weights: { 'hub-reads-fail': 6, 'kill-agent': 1, 'power-hub': 1 } },
  growing: { weights: { 'grow-upstream': 6, 'upstream-other-size': 3, 'kill-agent': 1 } },
  'damaged-link': {
    company: {
      times: 10,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 60, kind: 'spoil-frame' },
      ],
    },
    weights: { 'spoil-frame': 10, 'cut-link': 1 },
  },
  /** What a failed flush has dropped, and readers see still, until upstream loses power. */
  'failing-flushes': FAILING_FLUSHES,
  /** A flush fails, and the agent is killed before it has written again what that has dropped. */
  'killed-while-playing': {
    upstream: 'nbd',
    company: {
      times: 6,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 20, kind: 'upstream-flush-error' },
        { withinMs: 300, kind: 'kill-agent' },
        { withinMs: 20, kind: 'silence-hub' },
        { withinMs: 3000, kind: 'power-upstream' },
      ],
    },
    weights: { 'upstream-flush-error': 1, 'upstream-slow': 4, 'kill-agent': 1 },
  },
  /** A flush fails, nothing can be played again, and the agent is killed before what is in doubt was written again. */
  'killed-in-doubt': {
    upstream: 'nbd',
    replayBytes: 0,
    company: {
      times: 6,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 20, kind: 'upstream-flush-error' },
        { withinMs: 400, kind: 'kill-agent' },
      ],
    },
    weights: { 'cut-link': 1, 'kill-agent': 1 },
  },
  /** Upstream loses power, and the agent goes before it has given it again what that has lost. */
  'killed-while-away': {
    upstream: 'nbd',
    company: {
      times: 6,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 20, kind: 'power-upstream' },
        { withinMs: 500, kind: 'kill-agent' },
      ],
    },
  },
  /** The same, and nothing can be played again: all that was not flushed is in doubt. */
  'nothing-kept': { ...FAILING_FLUSHES, replayBytes: 0 },
  'rotting-hub': {
    weights: { 'rot-hub': 8, 'kill-hub': 3, 'power-hub': 3, 'kill-agent': 2, 'cut-link': 4, 'open-test': 3 },
  },
  /** Tests are open when the hub is killed. */
  testing: {
    company: {
      times: 6,
      steps: [
        { withinMs: 0, kind: 'open-test' },
        { withinMs: 2000, kind: 'kill-hub' },
      ],
    },
    weights: { 'open-test': 8, 'kill-hub': 2, 'power-hub': 2, 'end-hub': 2, 'cut-link': 1 },
  },
  /** It goes on with what has rotted until that is found. */
  'rotting-while-running': {
    company: {
      times: 8,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 1_000, kind: 'rot-running-hub' },
        { withinMs: 2_000, kind: 'burst' },
      ],
    },
    weights: { 'rot-running-hub': 6, 'hub-disk-full': 2, 'open-test': 4, 'end-hub': 1, 'power-hub': 1, 'cut-link': 2 },
  },
  /** It is killed at work, and then what it was working on turns out to be damaged. */
  'rotting-at-work': {
    company: {
      times: 18,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 1_200, kind: 'kill-hub' },
        { withinMs: 60, kind: 'rot-hub' },
      ],
    },
    weights: { 'rot-hub': 4, 'kill-hub': 2, 'cut-link': 2, 'open-test': 1 },
  },
  /** It is killed at work again and again: the next one finds in its cache what is not stable yet. */
  'killed-hub': {
    company: {
      times: 8,
      steps: [
        { withinMs: 0, kind: 'burst' },
        { withinMs: 200, kind: 'kill-hub' },
      ],
    },
    weights: { 'kill-hub': 2, 'power-agent': 1 },
  },
  /** Marks that were not synced, and a host that loses power. */
  unsynced: { durability: 'process', weights: { 'power-agent': 6, 'power-both': 2, 'kill-agent': 4, 'cut-link': 2 } },
  'silent-hub': { weights: { 'silence-hub': 6, 'half-open': 6, 'pause-hub': 4 } },
} as const satisfies Record<string, Profile>;
export type ProfileName = keyof typeof PROFILES;

/** Undefined: what an ordinary seed has. */
export function profileOf(name: string | undefined): Profile | undefined {
  if (name === undefined) return undefined;
  if (name in PROFILES) return PROFILES[name as ProfileName];
  throw new Error(`there is no profile ${name}; there are ${Object.keys(PROFILES).join(', ')}`);
}
