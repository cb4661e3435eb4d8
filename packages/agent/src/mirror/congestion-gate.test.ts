import { BlockRequest, Command } from '@rephub/nbd';
import { describe, expect, it } from 'vitest';
import { CongestionGate } from './congestion-gate.js';
import { WriteOperation } from '../operations.js';
import { RecordWindow } from './record-window.js';

const LIMIT = 64 * 1024;

function setUp() {
  const window = new RecordWindow(LIMIT);
  const mirror = { window, linked: true };
  const gate = new CongestionGate(mirror);
  const gone: number[] = [];
  const write = (id: number, length: number): WriteOperation => {
    const operation = new WriteOperation({
      locked: () => undefined,
      upstreamAnswered: () => undefined,
      givenUp: () => undefined,
      admitted: () => gone.push(id),
    });
    const outer = new BlockRequest({ completed: () => undefined });
    outer.command = Command.Write;
    operation.outer = outer;
    operation.rangeEnd = length;
    return operation;
  };
  const record = (number: number, length: number): void => {
    window.push(number, 0, 0, length, 0, 0, Buffer.alloc(0), [], Buffer.alloc(0), length);
  };
  return { gate, window, mirror, gone, write, record };
}

describe('on-congestion block (promise BOUND)', () => {
  it('lets writes pass while the window has room for them and those before them', () => {
    const { gate, write, record } = setUp();
    record(1, 1024);
    expect(gate.hold(write(1, 40 * 1024))).toBe(false);
    expect(gate.hold(write(2, 40 * 1024))).toBe(true);
    // In their order: a small one does not overtake.
    expect(gate.hold(write(3, 512))).toBe(true);
  });

  it('lets no more pass an empty window than it will hold, frames and all', () => {
    const { gate, window, write, record } = setUp();
    let passed = 0;
    while (passed < 100 && !gate.hold(write(passed, 8192))) passed += 1;
    expect(passed).toBe(7);
    for (let number = 1; number <= passed; number += 1) record(number, 8192);
    expect(window.bytes).toBeLessThanOrEqual(LIMIT);
  });

  it('lets them go on, in their order, when acknowledgements have made room', () => {
    const { gate, window, gone, write, record } = setUp();
    record(1, 60 * 1024);
    expect(gate.hold(write(1, 8192))).toBe(true);
    expect(gate.hold(write(2, 8192))).toBe(true);
    gate.roomMade();
    expect(gone).toEqual([]);
    window.dropThrough(1);
    gate.roomMade();
    expect(gone).toEqual([1, 2]);
  });

  it('gives the room of a write back when it is over', () => {
    const { gate, write, record } = setUp();
    record(1, 1024);
    const first = write(1, 60 * 1024);
    gate.hold(first);
    gate.done(first);
    expect(gate.hold(write(2, 60 * 1024))).toBe(false);
  });

  it('lets the next one go on when a write ends without a record: no acknowledgement will come', () => {
    const { gate, gone, write } = setUp();
    const failing = write(1, 40 * 1024);
    expect(gate.hold(failing)).toBe(false);
    expect(gate.hold(write(2, 40 * 1024))).toBe(true);
    expect(gate.hold(write(3, 40 * 1024))).toBe(true);
    gate.done(failing);
    expect(gone).toEqual([2]);
  });

  it('keeps nobody waiting while the link is down', () => {
    const { gate, mirror, gone, write, record } = setUp();
    record(1, 60 * 1024);
    expect(gate.hold(write(1, 8192))).toBe(true);
    mirror.linked = false;
    gate.roomMade();
    expect(gone).toEqual([1]);
    expect(gate.hold(write(2, 8192))).toBe(false);
  });
});
