/** What is heard on the link, told to the checkers, the trace and the coverage. */
import { decideLineage, type Hello } from '@rephub/protocol';
import { type WireListener } from './wire-tap.js';
import { type World } from './world.js';

export function listenToWire(world: World): WireListener {
  const hellos = new Map<number, Hello>();
  return {
    agentSentRecord: (header, raw) => {
      const record = world.records.add(header, raw);
      if (record === null) return;
      world.coverage.records += 1;
      world.trace.add(
        `record ${record.number} type ${record.type} ${record.volume}:${record.block}+${record.blocks} #${record.checksum}`,
      );
      for (const checker of world.checkers) checker.sent?.(record, header.agentTimeUs);
    },
    hello: (hello, link) => {
      hellos.set(link, hello);
    },
    welcome: (welcome, link) => {
      const hello = hellos.get(link);
      if (hello === undefined) return;
      const verdict = decideLineage(hello, welcome.group);
      world.trace.add(`verdict ${verdict.row}: ${verdict.reason}`);
      world.coverage.row(verdict.row);
      if (verdict.kind === 'resume') world.coverage.happened('resume');
      if (verdict.kind === 'first-sync') world.coverage.happened('first-sync');
      for (const checker of world.checkers) checker.verdict?.(verdict, hello, welcome);
    },
    start: ({ verdict, row, firstNumber }) => {
      world.trace.add(`start ${verdict} ${row} from ${firstNumber}`);
    },
    refuse: (refuse, from) => {
      world.trace.add(`${from} refuses: ${refuse.code}: ${refuse.message}`);
      // The hub says so before the table is asked.
      if (refuse.code === 'foreign-agent') world.coverage.row('L3-foreign-agent');
      if (refuse.code === 'session-back' || refuse.code === 'session-copied') world.coverage.row('L4-session-back');
      for (const checker of world.checkers) checker.refused?.(refuse, from);
    },
    hubSentAck: (ack) => {
      world.trace.add(`ack ${ack.received} ${ack.durable} ${ack.stalled ?? ''}`);
      for (const checker of world.checkers) checker.hubAcked?.(ack);
    },
    dialled: () => {
      for (const checker of world.checkers) checker.dialled?.();
    },
    agentHeard: () => {
      for (const checker of world.checkers) checker.agentHeard?.();
    },
    spoiled: (link) => {
      world.trace.add(`link ${link}: a bit is flipped`);
      for (const checker of world.checkers) checker.spoiled?.(link);
    },
    broken: (error) => {
      world.error ??= error;
    },
    closed: (link) => {
      for (const checker of world.checkers) checker.linkClosed?.(link);
    },
  };
}
