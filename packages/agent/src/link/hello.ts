/** What the agent says of itself in Hello. Pure. */
import { type Tracker } from '@rephub/bitmap';
import { FEATURES, type Hello, PROTOCOL_VERSION } from '@rephub/protocol';
import { type AgentConfig } from '../config.js';
import { type GuestVolume } from '../guest/guest-volume.js';
import { type Mirror } from '../mirror/mirror.js';
import { SOFTWARE } from '../version.js';

/** Enough to name the files; there may be many. */
const MOST_REASON_CHARACTERS = 2000;

export interface HelloFacts {
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly volumes: readonly GuestVolume[];
  readonly nonce: string;
  readonly earlierSessions: NonNullable<Hello['earlierSessions']>;
  /** A handshake has been carried out in this process: the mirror's numbers and window are certain. */
  readonly numbersKnown: boolean;
  /** The highest number that an earlier process may have used. */
  readonly lastNumberBefore: number;
  /** Everything was marked, durably, by this process: from then on marks tell what differs. */
  readonly everythingMarked: boolean;
  /** Why a disk counts as changed while no agent ran; null: none does. */
  readonly changedBehind: string | null;
  /** The hub holds other records under our numbers than the window does. */
  readonly windowDoubted: boolean;
  readonly unixMs: number;
}

export function helloOf(facts: HelloFacts): Hello {
  const { config, tracker, mirror, volumes } = facts;
  const { identity } = tracker;
  const { window } = mirror;
  const lastNumber = facts.numbersKnown ? mirror.lastNumber : facts.lastNumberBefore;
  const isEmpty = window.count === 0;
  const tracking = trackingOf(facts);
  const isChanged = facts.changedBehind !== null && tracking === 'untrusted' && !facts.windowDoubted;
  return {
    protocol: { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION },
    features: [...FEATURES, ...mirror.packer.features],
    software: SOFTWARE,
    group: config.group,
    agentId: identity.agentId,
    session: identity.session,
    nonce: facts.nonce,
    earlierSessions: facts.earlierSessions,
    line: { id: identity.line.id, parent: identity.line.parent === null ? null : { ...identity.line.parent } },
    lastNumber,
    restsOn: identity.restsOn,
    durableNumber: Math.max(identity.durableNumber, mirror.durableNumber),
    window:
      facts.numbersKnown && !facts.windowDoubted
        ? {
            first: isEmpty ? lastNumber + 1 : window.firstNumber,
            last: lastNumber,
            previousChecksum: isEmpty ? mirror.lastChecksum : window.previousChecksum,
          }
        : null,
    tracking,
    ...(isChanged ? { changedBehind: facts.changedBehind.slice(0, MOST_REASON_CHARACTERS) } : {}),
    volumes: volumes.map(({ index, name, sizeBytes }) => ({ index, name, sizeBytes })),
    ...(config.allowShrink ? { mayShrink: true } : {}),
    mode: config.mode,
    written: {
      ...(config.host === undefined ? {} : { host: config.host }),
      markedBytes: tracker.dirtyBytes,
      windowBytes: window.bytes,
      sinceUnixMs: sinceUnixMs(facts),
    },
  };
}

/** When the oldest write was made that no hub has as durable; null when there is none, or nobody knows. */
function sinceUnixMs({ mirror, unixMs }: HelloFacts): number | null {
  const exposedMs = mirror.exposedMs();
  return exposedMs === null || exposedMs === 0 ? null : unixMs - exposedMs;
}

function trackingOf({ tracker, everythingMarked, numbersKnown, windowDoubted }: HelloFacts): Hello['tracking'] {
  if (windowDoubted) return 'untrusted';
  const { found } = tracker;
  if (!everythingMarked && (found === 'new' || found === 'untrusted')) return found;
  if (numbersKnown || found === 'clean') return tracker.anyDirty() ? 'marked' : 'clean';
  return 'marked';
}
