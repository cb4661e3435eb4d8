/** What the agent says of itself in Hello. Pure. */
import { type Tracker } from '@rephub/bitmap';
import { FEATURES, type Hello, PROTOCOL_VERSION } from '@rephub/protocol';
import { type AgentConfig } from './config.js';
import { type GuestVolume } from './guest-volume.js';
import { type Mirror } from './mirror.js';
import { SOFTWARE } from './version.js';

export interface HelloFacts {
  readonly config: AgentConfig;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly volumes: readonly GuestVolume[];
  readonly nonce: string;
  /** A handshake has been carried out in this process: the mirror's numbers and window are certain. */
  readonly numbersKnown: boolean;
  /** The highest number that an earlier process may have used. */
  readonly lastNumberBefore: number;
  /** Everything was marked, durably, by this process: from then on marks tell what differs. */
  readonly everythingMarked: boolean;
  /** The hub holds other records under our numbers than the window does. */
  readonly windowDoubted: boolean;
}

export function helloOf(facts: HelloFacts): Hello {
  const { config, tracker, mirror, volumes } = facts;
  const { identity } = tracker;
  const { window } = mirror;
  const lastNumber = facts.numbersKnown ? mirror.lastNumber : facts.lastNumberBefore;
  const isEmpty = window.count === 0;
  return {
    protocol: { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION },
    features: [...FEATURES],
    software: SOFTWARE,
    group: config.group,
    agentId: identity.agentId,
    session: identity.session,
    nonce: facts.nonce,
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
    tracking: trackingOf(facts),
    volumes: volumes.map(({ index, name, sizeBytes }) => ({ index, name, sizeBytes })),
    ...(config.allowShrink ? { mayShrink: true } : {}),
    mode: config.mode,
  };
}

function trackingOf({ tracker, everythingMarked, numbersKnown, windowDoubted }: HelloFacts): Hello['tracking'] {
  if (windowDoubted) return 'untrusted';
  const { found } = tracker;
  if (!everythingMarked && (found === 'new' || found === 'untrusted')) return found;
  if (numbersKnown || found === 'clean') return tracker.anyDirty() ? 'marked' : 'clean';
  return 'marked';
}
