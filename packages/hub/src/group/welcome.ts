/** What the hub tells an agent in Welcome: who it is, and what it holds of the group. Pure. */
import { commonFeatures, type Hello, type HubGroup, PROTOCOL_VERSION, type Welcome } from '@rephub/protocol';
import type { HubIdentity } from '../hub/identity.js';
import type { Admission } from '../session/admission.js';

export interface Welcoming {
  readonly identity: HubIdentity;
  readonly software: string;
  readonly times: { readonly heartbeatMs: number; readonly timeoutMs: number };
}

export function welcomeFor({ identity, software, times }: Welcoming, hello: Hello, group: HubGroup | null): Welcome {
  return {
    protocol: PROTOCOL_VERSION,
    features: commonFeatures(hello.features),
    software,
    hubId: identity.hubId,
    epoch: identity.epoch,
    heartbeatMs: times.heartbeatMs,
    timeoutMs: times.timeoutMs,
    group,
  };
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
