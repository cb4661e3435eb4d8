/**
 * Two lines of one group, explained: up to where both sides are one history, and who has written since then what, when
 * and how much, as far as either side can honestly say (promise LINEAGE). Computed alike on both sides from what Hello
 * and Welcome say; nothing is resolved here.
 *
 * Always holds: a figure that nobody knows is null and is said as unknown; one that is a bound says so in its name.
 */
import { z } from 'zod';
import { type Hello, type HubGroup, lineSchema } from './messages.js';

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const known = z.number().nullable();
const text = z.string().max(4096);

export const divergenceSchema = z.object({
  kind: z.enum(['split-brain', 'superseded']),
  /** The last number that both sides have in common, and its line; null when neither line says where it left the other. */
  common: z.object({ line: text, number: count }).nullable(),
  agent: z.object({
    line: lineSchema,
    agentId: text,
    host: text.nullable(),
    /** After a crash it is the highest that may have been given. */
    lastNumber: count,
    isLastNumberExact: z.boolean(),
    /** Numbers given since the common one. After a crash: at most. */
    records: known,
    /** Of those, so many were once durable at a hub: their bytes are in no figure here. */
    recordsOnceDurable: known,
    /** Written and never durable at a hub: at most, since marks are of whole blocks. */
    unsentBytesAtMost: known,
    /** When the oldest of that was written. */
    unsentSinceUnixMs: known,
  }),
  hub: z.object({
    line: lineSchema,
    failedOver: z.boolean(),
    /** Who wrote the hub's line last, and in which session; while failed over, it is the hub itself. */
    writer: z.object({ agentId: text, session: count }).nullable(),
    lastNumber: count,
    /** Since the common one. */
    records: known,
    /** Of journal, frames and all, since the common number. */
    journalBytes: known,
    /** All of the hub's line, which may have begun before or after the common number, and when it began. */
    lineJournalBytes: known,
    lineBegunUnixMs: known,
  }),
});
export type Divergence = z.infer<typeof divergenceSchema>;

/** What parts the two sides. `agentLast` is the highest number that the agent knows of. */
export function explainDivergence(
  kind: Divergence['kind'],
  hello: Hello,
  hub: HubGroup,
  agentLast: number,
): Divergence {
  const common = commonPoint(hello, hub, agentLast);
  const { written } = hello;
  const isExact = hello.tracking === 'clean' || hello.window !== null;
  const hubRecords = common === null ? null : Math.max(0, hub.lastNumber - common.number);
  // All of the hub's line lies behind the common number only where that line began there, and nothing else does.
  const isAllSince = common !== null && hub.line.id !== common.line && hub.line.parent?.number === common.number;
  return {
    kind,
    common,
    agent: {
      line: hello.line,
      agentId: hello.agentId,
      host: written?.host ?? null,
      lastNumber: agentLast,
      isLastNumberExact: isExact,
      records: common === null ? null : Math.max(0, agentLast - common.number),
      recordsOnceDurable: common === null ? null : Math.max(0, hello.durableNumber - common.number),
      unsentBytesAtMost: written === undefined ? null : written.markedBytes + written.windowBytes,
      unsentSinceUnixMs: written?.sinceUnixMs ?? null,
    },
    hub: {
      line: hub.line,
      failedOver: hub.failedOver,
      writer: writerOf(hub),
      lastNumber: hub.lastNumber,
      records: hubRecords,
      journalBytes: hubRecords === 0 ? 0 : isAllSince ? (hub.written?.journalBytes ?? null) : null,
      lineJournalBytes: hub.written?.journalBytes ?? null,
      lineBegunUnixMs: hub.written?.begunUnixMs ?? null,
    },
  };
}

/** Not the owner that Hello was answered with: that is whoever asks. */
function writerOf({ written }: HubGroup): Divergence['hub']['writer'] {
  return written === undefined ? null : { agentId: written.writer.agentId, session: written.writer.session };
}

function commonPoint(hello: Hello, hub: HubGroup, agentLast: number): Divergence['common'] {
  const ours = hello.line;
  const theirs = hub.line;
  if (ours.id === theirs.id) return { line: ours.id, number: Math.min(agentLast, hub.lastNumber) };
  if (theirs.parent?.id === ours.id) return { line: ours.id, number: theirs.parent.number };
  if (ours.parent?.id === theirs.id) return { line: theirs.id, number: ours.parent.number };
  if (ours.parent !== null && theirs.parent !== null && ours.parent.id === theirs.parent.id) {
    return { line: ours.parent.id, number: Math.min(ours.parent.number, theirs.parent.number) };
  }
  return null;
}

/** For people: where they parted, what the agent has since, what the hub has since. */
export interface DivergenceText {
  readonly parted: string;
  readonly agent: string;
  readonly hub: string;
}

export function divergenceText(divergence: Divergence): DivergenceText {
  const { common, agent, hub } = divergence;
  const most = agent.isLastNumberExact ? '' : 'at most ';
  const once = agent.recordsOnceDurable ?? 0;
  return {
    parted:
      common === null
        ? 'unknown: neither line says where it left the other'
        : `after number ${common.number} of line ${common.line}`,
    agent: [
      `agent ${agent.agentId}${agent.host === null ? '' : ` on ${agent.host}`}, line ${agent.line.id} up to number ${agent.lastNumber}${agent.isLastNumberExact ? '' : ' at most'}`,
      agent.records === null
        ? 'records since unknown'
        : `${most}${agent.records} records since${agent.isLastNumberExact ? '' : ' (a crash leaves numbers unused)'}`,
      ...(once === 0 ? [] : [`${once} of them once durable at a hub`]),
      agent.unsentBytesAtMost === null
        ? 'bytes unknown'
        : `at most ${agent.unsentBytesAtMost} bytes that no hub has${timeText(agent.unsentSinceUnixMs, ', written since ')}`,
    ].join(', '),
    hub: [
      `${writerText(hub)}, line ${hub.line.id} up to number ${hub.lastNumber}`,
      hub.records === null ? 'records since unknown' : `${hub.records} records since`,
      hub.journalBytes === null ? 'bytes since unknown' : `${hub.journalBytes} bytes of journal since`,
      hub.lineJournalBytes === null
        ? 'begin of its line unknown'
        : `its line${timeText(hub.lineBegunUnixMs, ', begun ')}${hub.lineBegunUnixMs === null ? '' : ','} has ${hub.lineJournalBytes} bytes in all`,
    ].join(', '),
  };
}

function writerText({ failedOver, writer }: Divergence['hub']): string {
  if (failedOver) return 'the hub, failed over';
  return writer === null ? 'an unknown writer' : `agent ${writer.agentId} in session ${writer.session}`;
}

/** The same as one sentence. */
export function divergenceSentence(divergence: Divergence): string {
  const { parted, agent, hub } = divergenceText(divergence);
  return `parted: ${parted}; at the agent: ${agent}; at the hub: ${hub}`;
}

function timeText(unixMs: number | null, before: string): string {
  return unixMs === null ? '' : `${before}${new Date(unixMs).toISOString()}`;
}
