import { describe, expect, it } from 'vitest';
import { judgeEnd } from './journal-recovery.js';

describe('TORN: what a bad frame means', () => {
  const all = [true, false].flatMap((endsWhereItShould) =>
    [true, false].flatMap((nextSegmentExists) =>
      [4, 5, 6].flatMap((knownDurable) =>
        [true, false].map((isUnread) => ({
          endsWhereItShould,
          nextSegmentExists,
          expectedNumber: 5,
          knownDurable,
          isUnread,
        })),
      ),
    ),
  );

  it.each(all)('%o is cut only where nothing durable can be lost', (facts) => {
    const verdict = judgeEnd(facts);
    if (facts.endsWhereItShould) expect(verdict).toBe('go-on');
    else expect(verdict === 'torn').toBe(!facts.nextSegmentExists && facts.knownDurable < 5 && !facts.isUnread);
  });
});
