import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { nodeBootId } from './boot-id.js';

const directory = mkdtempSync(join(tmpdir(), 'boot-id-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

test('the boot id: the kernel’s, the same each time; none where there is no file, or no id in it', async () => {
  const id = await nodeBootId();
  expect(id === null || id.length === 36).toBe(true);
  expect(await nodeBootId()).toBe(id);
  expect(await nodeBootId(join(directory, 'missing'))).toBeNull();
  const path = join(directory, 'id');
  writeFileSync(path, 'no id\n');
  expect(await nodeBootId(path)).toBeNull();
  writeFileSync(path, '0123456a-0123-4567-89ab-0123456789ab\n');
  expect(await nodeBootId(path)).toBe('0123456a-0123-4567-89ab-0123456789ab');
});
