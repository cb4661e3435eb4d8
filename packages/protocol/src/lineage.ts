/**
 * What a handshake concludes: one pure function of what the agent says (Hello) and what the hub holds of
 * the group, computed alike on both sides. The rows are data, tried in order; docs/design.md, "Lineage",
 * is the same table in words, and a test meets every row.
 *
 * Always holds (promise LINEAGE):
 *  - every input meets a row, and the first row that it meets decides;
 *  - `nothing-to-do` only when no mark is set, no span is open, the numbers are equal and the volumes are the same;
 *  - `resume` only when every record after the hub's last one is in the agent's window;
 *  - a hub that holds less than what cleared marks rest on, or less than it once called durable, is never trusted to be equal anywhere.
 *
 * Must not know: sockets, files, how a verdict is carried out.
 */
import { uuidBytes } from '@rephub/platform';
import { type Divergence, divergenceSentence, explainDivergence } from './divergence.js';
import { chainStart, type Hello, type HubGroup, type VerdictKind, type VolumeDescription } from './messages.js';

export interface Verdict {
  readonly kind: VerdictKind;
  /** The row's id, as tests, events and Start name it. */
  readonly row: LineageRow;
  /** For people: what was found, with the numbers. */
  readonly reason: string;
  /** Only for `resume`: the first record of the window to be sent again (one above the window's last when nothing is missing). */
  readonly resumeFrom?: number;
  /** The first number that the agent may give to a new record: one above all that either side knows of. */
  readonly nextNumber: number;
  /** The header checksum of the record that the hub holds last: what a SpanBegin numbered `nextNumber` names. */
  readonly previousChecksum: number;
  /** Only for `split-brain` and `superseded`: what each side has that the other has not. */
  readonly divergence?: Divergence;
}

export type LineageRow = (typeof LINEAGE_TABLE)[number]['id'];

/** Both sides, with what several rows ask of them worked out once. */
interface Meeting {
  readonly hello: Hello;
  readonly hub: HubGroup;
  /** The highest number that the agent knows of, from whatever it says. */
  readonly agentLast: number;
  /** The hub's last record, or the start of the line's chain where it has none. */
  readonly hubChecksum: number;
}

interface Row {
  readonly id: string;
  readonly kind: VerdictKind;
  readonly when: (hello: Hello, hub: HubGroup | null) => boolean;
  readonly reason: (hello: Hello, hub: HubGroup | null) => string;
}

function row<Id extends string>(
  id: Id,
  kind: VerdictKind,
  when: (hello: Hello) => boolean,
  reason: (hello: Hello) => string,
): Row & { readonly id: Id } {
  return {
    id,
    kind,
    when: (hello, hub) => hub === null && when(hello),
    reason,
  };
}

function knownRow<Id extends string>(
  id: Id,
  kind: VerdictKind,
  when: (meeting: Meeting) => boolean,
  reason: (meeting: Meeting) => string,
): Row & { readonly id: Id } {
  return {
    id,
    kind,
    when: (hello, hub) => hub !== null && when(meet(hello, hub)),
    reason: (hello, hub) => (hub === null ? '' : reason(meet(hello, hub))),
  };
}

/** The rows in the order in which they are tried. */
export const LINEAGE_TABLE = [
  row(
    'L1-unknown-new',
    'first-sync',
    (hello) => hello.durableNumber === 0 && hello.restsOn === 0,
    (hello) => `the hub holds nothing of this agent's for group ${hello.group}, and the agent has never been protected`,
  ),
  row(
    'L2-unknown-known',
    'first-sync',
    () => true,
    (hello) =>
      `the hub holds nothing of this agent's for group ${hello.group}, though number ${Math.max(hello.durableNumber, hello.restsOn)} was once durable: it lost its data, was told to forget, or gives the group to another agent`,
  ),
  knownRow(
    'L3-foreign-agent',
    'refuse',
    ({ hello, hub }) => hello.agentId !== hub.owner,
    ({ hello, hub }) => `group ${hello.group} belongs to agent ${hub.owner}, not to ${hello.agentId}`,
  ),
  knownRow(
    'L4-session-back',
    'refuse',
    ({ hello, hub }) => showsOldState(hello, hub.ownerSession, hub.ownerNonce),
    ({ hello, hub }) =>
      `the agent's session ${hello.session} does not come after session ${hub.ownerSession} that the hub has seen from another process: its state directory was copied or restored`,
  ),
  knownRow(
    'L5-failed-over',
    'superseded',
    ({ hub }) => hub.failedOver,
    ({ hello, hub }) =>
      `group ${hello.group} has failed over: the hub is on line ${hub.line.id}, and takes nothing from the old primary until it is rolled back`,
  ),
  knownRow(
    'L6-other-line',
    'superseded',
    ({ hello, hub }) => hub.line.id !== hello.line.id && hub.line.parent?.id === hello.line.id,
    ({ hello, hub, agentLast }) => {
      const left = hub.line.parent?.number ?? 0;
      const most = knowsItsLast(hello) ? '' : 'at most ';
      return `the hub went on with line ${hub.line.id}, which left the agent's line at number ${left}; the agent has ${most}${Math.max(0, agentLast - left)} records beyond it`;
    },
  ),
  knownRow(
    'L7-split-brain',
    'split-brain',
    ({ hello, hub }) => hub.line.id !== hello.line.id,
    ({ hello, hub, agentLast }) =>
      `the agent is on line ${hello.line.id} at number ${agentLast}${knowsItsLast(hello) ? '' : ' at most'}, the hub on line ${hub.line.id} at ${hub.lastNumber}, and the hub's does not descend from the agent's`,
  ),
  knownRow(
    'L8-volumes',
    'refuse',
    ({ hello, hub }) => volumeConflict(hello, hub) !== null,
    ({ hello, hub }) => volumeConflict(hello, hub) ?? '',
  ),
  knownRow(
    'L9-hub-older',
    'compare-everything',
    ({ hello, hub }) => hub.lastNumber < hello.restsOn,
    ({ hello, hub }) =>
      `the hub ends at number ${hub.lastNumber}, cleared marks rest on ${hello.restsOn}: the hub came back older`,
  ),
  knownRow(
    'L10-hub-lost-durable',
    'compare-everything',
    ({ hello, hub }) => hub.lastNumber < hello.durableNumber,
    ({ hello, hub }) =>
      `the hub ends at number ${hub.lastNumber}, yet had acknowledged ${hello.durableNumber} as durable: it lost durable data`,
  ),
  knownRow(
    'L11-hub-ahead',
    'refuse',
    ({ hello, hub, agentLast }) => knowsItsLast(hello) && hub.lastNumber > agentLast,
    ({ hub, agentLast }) =>
      `the hub holds number ${hub.lastNumber}, the agent knows that it gave none above ${agentLast}: its state is older than what it sent`,
  ),
  knownRow(
    'L12-other-record',
    'compare-everything',
    ({ hello, hub, hubChecksum }) =>
      hello.window !== null &&
      hub.lastNumber === hello.window.first - 1 &&
      hubChecksum !== hello.window.previousChecksum,
    ({ hub }) => `the hub's record ${hub.lastNumber} is not the one that the agent gave that number`,
  ),
  knownRow(
    'L13-never-consistent',
    'first-sync',
    (meeting) =>
      meeting.hub.consistentNumber === null &&
      (distrusted(meeting.hello) || (!meeting.hub.spanOpen && !windowCovers(meeting))),
    ({ hub }) => `the hub has no consistent point, and its ${hub.lastNumber} records do not lead to one`,
  ),
  knownRow(
    'L14-untrusted',
    'compare-everything',
    ({ hello }) => distrusted(hello),
    ({ hello }) => `the agent's tracking is ${hello.tracking}: its marks do not say what differs`,
  ),
  knownRow(
    'L15-equal',
    'nothing-to-do',
    ({ hello, hub, agentLast }) =>
      hello.tracking === 'clean' &&
      hub.lastNumber === agentLast &&
      hub.consistentNumber !== null &&
      !hub.spanOpen &&
      sameVolumes(hello, hub),
    ({ hub }) => `both sides end at number ${hub.lastNumber} and no mark is set`,
  ),
  knownRow(
    'L16-resume',
    'resume',
    (meeting) => windowCovers(meeting),
    ({ hub, agentLast }) =>
      `the window holds all ${agentLast - hub.lastNumber} numbers after the hub's last, ${hub.lastNumber}`,
  ),
  knownRow(
    'L17-first-sync-cut',
    'resync-by-bitmap',
    ({ hub }) => hub.consistentNumber === null,
    ({ hub }) => `the first sync was cut at number ${hub.lastNumber}; the marks say what is still missing`,
  ),
  knownRow(
    'L18-span-open',
    'resync-by-bitmap',
    ({ hub }) => hub.spanOpen,
    ({ hub }) => `a resync was cut at number ${hub.lastNumber}; the marks say what is still missing`,
  ),
  knownRow(
    'L19-volume-set',
    'resync-by-bitmap',
    ({ hello, hub }) => !sameVolumes(hello, hub),
    ({ hello, hub }) =>
      `the agent has ${hello.volumes.length} volumes, the hub knows ${hub.volumes.length}, not all the same, or not of the same sizes`,
  ),
  knownRow(
    'L20-hub-behind',
    'resync-by-bitmap',
    ({ hub, agentLast }) => hub.lastNumber < agentLast,
    ({ hello, hub, agentLast }) =>
      knowsItsLast(hello)
        ? `the hub ends at number ${hub.lastNumber}, the agent at ${agentLast}, and the window does not hold what lies between`
        : `the hub ends at number ${hub.lastNumber}; the agent had no orderly end, and goes on above ${agentLast}, up to where it may have given numbers (set aside in large steps: they count no writes); its marks say what differs`,
  ),
  knownRow(
    'L21-marked',
    'resync-by-bitmap',
    () => true,
    ({ hub }) => `marks are set, and the hub ends at number ${hub.lastNumber}`,
  ),
] as const;

/** What a session between this agent and this hub must do; `hubGroup` is null when the hub does not know the group. */
export function decideLineage(hello: Hello, hubGroup: HubGroup | null): Verdict {
  const found = LINEAGE_TABLE.find((candidate) => candidate.when(hello, hubGroup)) ?? LAST_ROW;
  const verdict = {
    kind: found.kind,
    row: found.id,
    reason: found.reason(hello, hubGroup),
    nextNumber: Math.max(agentLastOf(hello), hubGroup?.lastNumber ?? 0, hubGroup?.line.parent?.number ?? 0) + 1,
    previousChecksum: hubChecksumOf(hello, hubGroup),
  };
  if (hubGroup !== null && (found.kind === 'split-brain' || found.kind === 'superseded')) {
    const divergence = explainDivergence(found.kind, hello, hubGroup, agentLastOf(hello));
    return { ...verdict, divergence };
  }
  if (found.kind !== 'resume' || hello.window === null || hubGroup === null) return verdict;
  return { ...verdict, resumeFrom: Math.max(hubGroup.lastNumber + 1, hello.window.first) };
}

/** The reason, and what parts the two sides where that is it: for the refusal. */
export function fullReason({ reason, divergence }: Verdict): string {
  return divergence === undefined ? reason : `${reason}; ${divergenceSentence(divergence)}`;
}

/** The number of the first record that follows Start. */
export function firstNumberOf(verdict: Verdict): number {
  return verdict.resumeFrom ?? verdict.nextNumber;
}

const LAST_ROW = LINEAGE_TABLE[LINEAGE_TABLE.length - 1] ?? LINEAGE_TABLE[0];

function meet(hello: Hello, hub: HubGroup): Meeting {
  return { hello, hub, agentLast: agentLastOf(hello), hubChecksum: hubChecksumOf(hello, hub) };
}

function agentLastOf(hello: Hello): number {
  return Math.max(
    hello.lastNumber,
    hello.restsOn,
    hello.durableNumber,
    hello.window?.last ?? 0,
    hello.line.parent?.number ?? 0,
  );
}

function hubChecksumOf(hello: Hello, hub: HubGroup | null): number {
  if (hub === null) return chainStart(uuidBytes(hello.line.id));
  return hub.lastNumber === 0 ? chainStart(uuidBytes(hub.line.id)) : hub.lastChecksum;
}

/** After a crash an agent knows only a lower bound; after a clean stop, or with a window, it knows exactly. */
function knowsItsLast(hello: Hello): boolean {
  return hello.tracking === 'clean' || hello.window !== null;
}

function distrusted(hello: Hello): boolean {
  return hello.tracking === 'new' || hello.tracking === 'untrusted';
}

/**
 * True when the records of the window are all that the hub lacks. A window that begins with a SpanBegin may
 * begin more than one number after the hub's last record: then the checksum that it names tells.
 */
function windowCovers({ hello, hub, agentLast, hubChecksum }: Meeting): boolean {
  const window = hello.window;
  if (window === null || window.last < agentLast || hub.lastNumber > window.last) return false;
  return hub.lastNumber >= window.first || hubChecksum === window.previousChecksum;
}

function sameVolumes(hello: Hello, hub: HubGroup): boolean {
  return (
    hello.volumes.length === hub.volumes.length &&
    hello.volumes.every((volume) =>
      hub.volumes.some((known) => known.name === volume.name && known.sizeBytes === volume.sizeBytes),
    )
  );
}

/** What speaks against the two sides' volumes being the same ones; null when nothing does. */
function volumeConflict(hello: Hello, hub: HubGroup): string | null {
  for (const volume of hello.volumes) {
    for (const known of hub.volumes) {
      if (volume.name !== known.name && volume.index !== known.index) continue;
      const isSame = volume.name === known.name && volume.index === known.index;
      const isSmaller = volume.sizeBytes < known.sizeBytes;
      if (isSame && (!isSmaller || hello.mayShrink === true)) continue;
      const hint = isSame ? ' (a volume shrinks only with --allow-shrink)' : '';
      return `the agent has ${describe(volume)}, the hub ${describe(known)}${hint}`;
    }
  }
  return null;
}

function describe(volume: VolumeDescription): string {
  return `volume ${volume.name} as number ${volume.index} with ${volume.sizeBytes} bytes`;
}

/** The agent's state does not come after that session of its, which the hub has had: it is an old copy, or in use twice. */
export function showsOldState(
  hello: Pick<Hello, 'session' | 'nonce' | 'earlierSessions'>,
  ownerSession: number,
  ownerNonce: string,
): boolean {
  if (hello.session < ownerSession) return true;
  if (hello.session === ownerSession) return hello.nonce !== ownerNonce;
  const earlier = hello.earlierSessions ?? [];
  const same = earlier.find(({ session }) => session === ownerSession);
  if (same !== undefined) return same.nonce !== ownerNonce.slice(0, same.nonce.length);
  // It knows older ones, and not that one. Where it knows only newer ones nothing can be said.
  return earlier.some(({ session }) => session < ownerSession);
}
