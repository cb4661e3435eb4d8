import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

interface NbdInfo {
  readonly structured: boolean;
  readonly exports: readonly Readonly<Record<string, unknown>>[];
}

it('nbdinfo --json shows size, block sizes, contexts and abilities of our export', async () => {
  const device = memoryDevice(64 * 1024 * 1024, { limits: { minimumBytes: 512, maximumBytes: 1024 * 1024 } });
  const { uri, faults } = await serveNbd(testScope(), { disk: device });
  const info = JSON.parse(await must('nbdinfo', ['--json', uri('disk')])) as NbdInfo;
  expect(info.structured).toBe(true);
  expect(info.exports[0]).toMatchObject({
    'export-name': 'disk',
    'export-size': 67_108_864,
    contexts: ['base:allocation'],
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_trim: true,
    can_zero: true,
    can_fast_zero: true,
    can_cache: true,
    can_df: true,
    can_multi_conn: true,
    block_size_minimum: 512,
    block_size_preferred: 4096,
    block_size_maximum: 1_048_576,
  });
  expect(faults).toEqual([]);
});

it('nbdinfo shows a read-only export as such, without abilities to write', async () => {
  const device = memoryDevice(1024 * 1024, { abilities: { readOnly: true, multiConn: false, fua: false } });
  const { uri } = await serveNbd(testScope(), { disk: device });
  const info = JSON.parse(await must('nbdinfo', ['--json', uri('disk')])) as NbdInfo;
  expect(info.exports[0]).toMatchObject({
    is_read_only: true,
    can_trim: false,
    can_zero: false,
    can_fast_zero: false,
    can_fua: false,
    can_multi_conn: false,
  });
});
