/** What was done to the world that makes some expectations moot, until the reason is over. */
export interface Excuses {
  /** An operator, or a disaster, has begun the group anew at the hub: what was there before is not expected. */
  groupBegunAnew: number;
  /** The group's data at the hub was forgotten, lost, or replaced by a backup, lines put aside too. */
  dataForgotten: number;
  /** The hub came back older than it was: what it had called durable is not expected. */
  hubCameBackOlder: number;
  /** What the hub has stored has gone bad: what it had called durable may be damaged. */
  hubRots: number;
  /** A running hub has not found that yet, maybe: what it serves is taken as the disk gives it. */
  hubRotUnseen: boolean;
  /** It names the damage, or that its images were replaced, until that is mended. */
  hubRotted: boolean;
  /** The agent's files were damaged or failed: all may have to be compared. */
  stateDamaged: boolean;
  /** The guest may see errors: its disk fails, or has changed. */
  guestErrors: boolean;
  /** The hub has lost what the agent believes it has, until they have spoken. */
  exposureUnknown: boolean;
  /** Upstream, or the agent, is away or stopped: requests wait. */
  requestsWait: boolean;
  /** Some range was unreadable. */
  unreadable: boolean;
}

export function noExcuses(): Excuses {
  return {
    groupBegunAnew: 0,
    dataForgotten: 0,
    hubCameBackOlder: 0,
    hubRots: 0,
    hubRotUnseen: false,
    hubRotted: false,
    stateDamaged: false,
    guestErrors: false,
    exposureUnknown: false,
    requestsWait: false,
    unreadable: false,
  };
}
