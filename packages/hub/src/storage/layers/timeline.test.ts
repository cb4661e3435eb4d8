import { FrameType } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { IndexMemory } from '../index/extent-index.js';
import { lineStart } from '../line-state.js';
import { PendingRecord } from './pending-records.js';
import { Timeline } from './timeline.js';

const LINE = { id: '11111111-2222-4333-8444-555555555555', parent: null };

test('a fold of a layer into which a part of the next one was merged reaches to the end of that one (PIT)', () => {
  const timeline = new Timeline(LINE, lineStart(LINE), 0, 0, new IndexMemory(), new Map());
  const record = new PendingRecord();
  const take = (type: FrameType, offset: number, length: number, name: string | null = null): void => {
    record.type = type;
    record.volume = 0;
    record.offset = offset;
    record.length = length;
    record.number = timeline.state.number + 1;
    record.payloadPlace = timeline.position;
    record.endPosition = timeline.position + 100;
    timeline.take(record, name);
  };
  take(FrameType.VolumeAdded, 0, 1 << 20, 'disk0');
  take(FrameType.Write, 0, 512);
  timeline.closeTop();
  take(FrameType.Write, 4096, 512);
  take(FrameType.Write, 8192, 512);
  timeline.closeTop();
  take(FrameType.Write, 0, 512);
  const [older] = timeline.layers;
  if (older === undefined) throw new Error('there are layers');
  expect([older.lastNumber, timeline.reachOf(older)]).toEqual([2, 2]);
  timeline.mergeStep(1);
  expect([older.lastNumber, older.extents, timeline.reachOf(older)]).toEqual([2, 2, 4]);
  while (timeline.mergeStep(1)) if (older.lastNumber === 4) break;
  expect([older.lastNumber, timeline.reachOf(older)]).toEqual([4, 4]);
});
