/** The link to the hub, as status shows it, and what of it outlives a session. */
import { type Divergence } from '@rephub/protocol';

export interface LinkStatus {
  readonly urls: readonly string[];
  readonly connectedTo: string | null;
  readonly hubId: string | null;
  readonly epoch: number | null;
  readonly connected: boolean;
  /** Why there is no session, or why the last one ended; null while one is up. */
  readonly reason: string | null;
  /** Nothing will change until somebody acts. */
  readonly refused: boolean;
  /** The group belongs to another agent: what the hub has of it is no replica of these disks. */
  readonly replaced: boolean;
  readonly paused: boolean;
  readonly everConsistent: boolean;
  readonly stalled: string | null;
  readonly sessions: number;
  readonly lastVerdict: string | null;
  /** What parts this agent's line from the hub's; null while nothing does. */
  readonly divergence: Divergence | null;
}

/** What one session with a hub leaves to the next, and to status. */
export interface LinkMemory {
  /** Why there is no session, or why the last one ended; null while one is up. */
  reason: string | null;
  /** Nothing will change until somebody acts. */
  refused: boolean;
  /** The group belongs to another agent, by the hub's last word on it. */
  replaced: boolean;
  /** What answers at the address is another service. */
  notAHub: boolean;
  everConsistent: boolean;
  hub: { readonly id: string; readonly epoch: number } | null;
  /** Those in which records flowed. */
  sessions: number;
  lastVerdict: string | null;
}

/** True for a text that says already which hub it is about, by its address. */
export function namesHub(text: string, url: string): boolean {
  return text.includes(url.replace(/^[a-z]+:\/\//, ''));
}
