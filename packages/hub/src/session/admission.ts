/**
 * Who may stream into a group: a pure function of who owns it, what an operator allowed and who asks.
 *
 * Always holds: an agent with another identity is let in only when nobody owns the group, or an operator
 * has enrolled its successor; a copied state directory (session number gone back, or the same number from
 * another process) never is. Rows L3 and L4 of the lineage table say the same to the agent.
 */
import { type Hello, PROTOCOL_VERSION, showsOldState } from '@rephub/protocol';
import type { Owner } from '../storage/index.js';

/** An operator's word: the next unknown agent may take the group from the agent named here. */
export interface Enrolment {
  readonly replaces: string;
}

export type Admission =
  /** Nobody owns the group, or its owner asks. */
  | { readonly kind: 'admit' }
  /** Another agent, and an operator has enrolled it. */
  | { readonly kind: 'take-over'; readonly from: string }
  | { readonly kind: 'refuse'; readonly code: string; readonly message: string; readonly retryAfterMs: number | null };

/** `owner` is the durable owner, or the agent whose handshake is under way when that one is newer. */
export function admit(hello: Hello, owner: Owner | null, enrolment: Enrolment | null): Admission {
  if (hello.protocol.min > PROTOCOL_VERSION || hello.protocol.max < PROTOCOL_VERSION) {
    return refuse(
      'protocol-version',
      `agent speaks protocol ${hello.protocol.min} to ${hello.protocol.max}, this hub speaks ${PROTOCOL_VERSION}`,
    );
  }
  const twice = repeatedVolume(hello);
  if (twice !== null) return refuse('bad-volumes', `agent names volume ${twice} twice`);
  if (owner === null) return { kind: 'admit' };
  if (owner.agentId !== hello.agentId) {
    if (enrolment !== null && enrolment.replaces === owner.agentId) return { kind: 'take-over', from: owner.agentId };
    return refuse(
      'foreign-agent',
      `group ${hello.group} belongs to agent ${owner.agentId}; if that one is gone for good, 'rephub enroll ${hello.group}' on the hub lets another take its place`,
    );
  }
  if (hello.session < owner.session) {
    return refuse(
      'session-back',
      `agent shows session ${hello.session} and has had ${owner.session}: its state directory is an old copy`,
    );
  }
  if (hello.session === owner.session && hello.nonce !== owner.nonce) {
    return refuse(
      'session-copied',
      `session ${hello.session} is in use by another process: its state directory was copied`,
    );
  }
  if (showsOldState(hello, owner.session, owner.nonce)) {
    return refuse(
      'session-back',
      `agent shows session ${hello.session}, and its state knows nothing of session ${owner.session} that it has had: its state directory is an old copy`,
    );
  }
  return { kind: 'admit' };
}

/** The newer of the durable owner and an agent whose handshake is under way. */
export function newerOwner(durable: Owner | null, candidate: Owner | null): Owner | null {
  if (candidate === null) return durable;
  if (durable === null || durable.agentId !== candidate.agentId) return candidate;
  return candidate.session > durable.session ? candidate : durable;
}

function refuse(code: string, message: string): Admission {
  return { kind: 'refuse', code, message, retryAfterMs: null };
}

function repeatedVolume(hello: Hello): string | null {
  const seen = new Set<string | number>();
  for (const volume of hello.volumes) {
    if (seen.has(volume.index) || seen.has(volume.name)) return volume.name;
    seen.add(volume.index).add(volume.name);
  }
  return null;
}
