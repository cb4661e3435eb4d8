/** How far a resync is, holes left aside: they cost neither reading nor sending. Pure. */
import { type AgentReport } from './messages.js';

export interface ResyncShare {
  readonly dataBytesDone: number;
  /** What is to be done in all; holes are in it while it is not known how much of it they are. */
  readonly dataBytes: number;
  /** Whole percents, and 100 only when all is done. */
  readonly percent: number;
}

export function resyncShare(resync: NonNullable<AgentReport['resync']>): ResyncShare {
  const { bytesDone, bytesTotal, holeBytesDone, holeBytesTotal } = resync;
  // Half of the figures would be worse than none.
  const known = holeBytesDone !== undefined && holeBytesTotal !== undefined;
  const dataBytesDone = known ? bytesDone - holeBytesDone : bytesDone;
  const dataBytes = Math.max(dataBytesDone, known ? bytesTotal - holeBytesTotal : bytesTotal);
  if (bytesDone >= bytesTotal) return { dataBytesDone, dataBytes, percent: 100 };
  const percent = dataBytes === 0 ? 99 : Math.min(99, Math.floor((100 * dataBytesDone) / dataBytes));
  return { dataBytesDone, dataBytes, percent };
}
