import { describe, expect, it } from 'vitest';
import { FreezeGate } from './freeze-gate.js';
import { WriteOperation } from './operations.js';

function setUp() {
  const hub = { away: true };
  const seen: string[] = [];
  const gate = new FreezeGate(() => hub.away);
  const write = (name: string): boolean =>
    gate.hold(
      new WriteOperation({
        locked: () => seen.push(name),
        mark: () => undefined,
        upstreamAnswered: () => undefined,
        givenUp: () => seen.push(`${name} given up`),
      }),
    );
  return { hub, seen, gate, write };
}

describe('on-disconnect freeze (promise ACK)', () => {
  it('lets writes wait while the hub is away, and go on in their order when it is back', () => {
    const { hub, seen, gate, write } = setUp();
    expect(write('a')).toBe(true);
    expect(write('b')).toBe(true);
    gate.changed();
    expect(seen).toEqual([]);
    hub.away = false;
    gate.changed();
    expect(seen).toEqual(['a', 'b']);
    expect(write('c')).toBe(false);
  });

  it('at the end gives up what waits and what comes', () => {
    const { seen, gate, write } = setUp();
    write('a');
    gate.giveUp();
    expect(write('b')).toBe(true);
    expect(seen).toEqual(['a given up', 'b given up']);
    expect(gate.waiting).toBe(0);
  });
});
