import { FRAME_OVERHEAD_BYTES } from '@rephub/protocol';
import { describe, expect, it } from 'vitest';
import { RecordWindow } from './record-window.js';

const HEAD = Buffer.from('head');
const TAIL = Buffer.from('tail');

function push(window: RecordWindow, number: number, offset = number * 4096): void {
  window.push(number, 0, offset, 4096, number - 1, number, HEAD, [Buffer.alloc(4096, number)], TAIL, 4096);
}

function sent(window: RecordWindow): number[] {
  const numbers: number[] = [];
  while (window.unsentCount > 0) {
    window.sendNext({
      send: (buffers) => {
        numbers.push(buffers[1]?.[0] ?? -1);
      },
    });
  }
  return numbers;
}

describe('record window (promise BOUND)', () => {
  it('counts whole frames against its limit', () => {
    const window = new RecordWindow(2 * (4096 + FRAME_OVERHEAD_BYTES));
    push(window, 1);
    expect(window.hasRoomFor(4096)).toBe(true);
    push(window, 2);
    expect(window.hasRoomFor(0)).toBe(false);
    window.dropThrough(1);
    expect(window.bytes).toBe(4096 + FRAME_OVERHEAD_BYTES);
    expect(window.hasRoomFor(4096)).toBe(true);
  });

  it('sends each record once, oldest first, and all of them again after a rewind', () => {
    const window = new RecordWindow(1 << 20);
    for (let number = 1; number <= 5; number++) push(window, number);
    expect(sent(window)).toEqual([1, 2, 3, 4, 5]);
    window.dropThrough(2);
    window.rewind();
    expect(sent(window)).toEqual([3, 4, 5]);
    expect(window.firstNumber).toBe(3);
    expect(window.previousChecksum).toBe(2);
  });

  it('knows up to which number the hub can have anything (promise CLEAR)', () => {
    const window = new RecordWindow(1 << 20);
    for (let number = 5; number <= 8; number++) push(window, number);
    expect(window.sentThrough).toBe(4);
    window.sendNext({ send: () => undefined });
    window.sendNext({ send: () => undefined });
    expect(window.sentThrough).toBe(6);
    window.dropThrough(5);
    expect(window.sentThrough).toBe(6);
    window.rewind();
    expect(window.sentThrough).toBe(5);
  });

  it('keeps its order while it grows in the middle of the ring', () => {
    const window = new RecordWindow(1 << 30);
    for (let number = 1; number <= 1000; number++) push(window, number);
    window.dropThrough(900);
    for (let number = 1001; number <= 5000; number++) push(window, number);
    expect(window.count).toBe(4100);
    expect(window.lastNumber).toBe(5000);
    expect(sent(window).slice(0, 3)).toEqual([901, 902, 903].map((number) => number & 255));
  });

  it('names every range that is lost when it is given up', () => {
    const window = new RecordWindow(1 << 20);
    push(window, 1, 0);
    push(window, 2, 8192);
    const lost: number[] = [];
    window.abandon((_volume, offset) => lost.push(offset));
    expect(lost).toEqual([0, 8192]);
    expect(window.count).toBe(0);
    expect(window.bytes).toBe(0);
    expect(window.oldestBornMs).toBeNull();
  });
});
