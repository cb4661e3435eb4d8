/** Folders for one test, with short names: a Unix socket's path may have 107 bytes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Scope } from './scope.js';

/** An empty folder that is removed with all it holds when the scope closes; `below` another place than usual where given. */
export async function tempDir(scope: Scope, below = tmpdir()): Promise<string> {
  const path = await mkdtemp(join(below, 'rh-'));
  scope.defer(`folder ${path}`, async () => {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  });
  return path;
}
