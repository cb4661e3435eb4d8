/** What the hub tells an agent in Welcome: who it is, and what it holds of the group. Pure. */
import type { BlockCodec } from '@rephub/platform';
import {
  codecFeatures,
  commonFeatures,
  type Hello,
  type HubGroup,
  PROTOCOL_VERSION,
  type Welcome,
} from '@rephub/protocol';
import type { HubIdentity } from '../identity.js';
import type { Seed } from '../storage/index.js';
import type { Admission } from '../session/admission.js';

export interface Welcoming {
  readonly platform: { readonly codecs: readonly BlockCodec[] };
  readonly identity: HubIdentity;
  readonly software: string;
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
}

/**
 * `seeded`: base images were put in place, and the first sync that they are for has not ended. `exposedMs`: how old at most
 * the oldest write of this agent is that the newest point lacks; null when nobody knows.
 */
export function welcomeFor(
  { platform, identity, software, times }: Welcoming,
  hello: Hello,
  group: HubGroup | null,
  seeded: boolean,
  exposedMs: number | null,
): Welcome {
  return {
    protocol: PROTOCOL_VERSION,
    features: commonFeatures(hello.features, codecFeatures(platform.codecs)),
    software,
    hubId: identity.hubId,
    epoch: identity.epoch,
    heartbeatMs: times.heartbeatMs,
    timeoutMs: times.timeoutMs,
    group,
    seeded,
    ...(exposedMs === null ? {} : { exposedMs }),
  };
}

/** Why a seeded group cannot be this agent's: a seed of another size, or of a volume that it does not have (SIZE). Null when it can. */
export function seedConflict(seeds: readonly Seed[], volumes: Hello['volumes']): string | null {
  for (const { volume, sizeBytes } of seeds) {
    const found = volumes.find(({ name }) => name === volume);
    if (found === undefined) return `volume ${volume}: seeded, and the agent has no such volume`;
    if (found.sizeBytes !== sizeBytes) {
      return `volume ${volume}: seeded with ${sizeBytes} bytes, the agent's has ${found.sizeBytes}`;
    }
  }
  return null;
}

/**
 * What an admitted agent is told that the hub holds. An agent that takes the group over is its owner as far as
 * the lineage is concerned; on a line of its own it finds the group unknown, and begins with a first sync,
 * while what was there is kept aside.
 */
export function presentedGroup(known: HubGroup | null, hello: Hello, admission: Admission): HubGroup | null {
  if (known === null) return null;
  if (admission.kind === 'take-over' && known.line.id !== hello.line.id) return null;
  return { ...known, owner: hello.agentId, ownerSession: hello.session, ownerNonce: hello.nonce };
}
