/**
 * An agent whose line is not the hub's: what parts the two is kept for the status and told once for each way they part,
 * however often the agent comes. Nothing is resolved here.
 */
import { type Divergence, divergenceText, type Verdict } from '@rephub/protocol';
import type { Tell } from '../events/events.js';

export class Parting {
  readonly #tell: Tell;
  #current: Divergence | null = null;

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  /** Since the hub's start; null while the last agent that came was on the hub's line. */
  get current(): Divergence | null {
    return this.#current;
  }

  /** What a handshake came to. */
  concluded({ divergence, row }: Verdict): void {
    const before = this.#current;
    this.#current = divergence ?? null;
    if (divergence === undefined || (before !== null && sameLines(before, divergence))) return;
    const { agent, hub, common } = divergence;
    const { parted, agent: ofAgent, hub: ofHub } = divergenceText(divergence);
    this.#tell('error', divergence.kind, `parted ${parted}. ${ofAgent}. ${ofHub}. Nothing is resolved by itself`, {
      row,
      commonLine: common?.line ?? null,
      commonNumber: common?.number ?? null,
      agent: agent.agentId,
      agentHost: agent.host,
      agentLine: agent.line.id,
      agentNumber: agent.lastNumber,
      agentRecords: agent.records,
      agentBytesAtMost: agent.unsentBytesAtMost,
      agentSinceUnixMs: agent.unsentSinceUnixMs,
      hubLine: hub.line.id,
      hubNumber: hub.lastNumber,
      hubRecords: hub.records,
      hubJournalBytes: hub.journalBytes,
      hubLineBegunUnixMs: hub.lineBegunUnixMs,
      hubLineJournalBytes: hub.lineJournalBytes,
      hubWriter: hub.failedOver ? 'hub' : (hub.writer?.agentId ?? null),
    });
  }
}

function sameLines(a: Divergence, b: Divergence): boolean {
  return a.kind === b.kind && a.agent.line.id === b.agent.line.id && a.hub.line.id === b.hub.line.id;
}
