/**
 * The independent oracle: what two disks hold is compared by tools of other makers, byte by byte, never by our own
 * digests. Three results, as for any comparison: same, differs, could not tell.
 */
import { join } from 'node:path';
import { must, run } from './process.js';
import { type Scope } from './scope.js';
import { tempDir } from './temp-dir.js';

export type Verdict = 'same' | 'differs' | 'could-not-tell';

export interface Comparison {
  readonly verdict: Verdict;
  readonly said: string;
}

/** A copy of what an NBD export, or a file, holds now, made by nbdcopy. */
export async function copyOf(scope: Scope, source: string): Promise<string> {
  const path = join(await tempDir(scope), 'copy.raw');
  await must('nbdcopy', [source, path], { timeoutMs: 180_000 });
  return path;
}

/** Two files by cmp, which names the first byte that differs. */
export async function compareFiles(one: string, other: string): Promise<Comparison> {
  const result = await run('cmp', [one, other], { timeoutMs: 180_000 });
  return {
    verdict: result.code === 0 ? 'same' : result.code === 1 ? 'differs' : 'could-not-tell',
    said: `${result.stdout}${result.stderr}`,
  };
}

/** Two NBD exports or files: copied by nbdcopy, compared by cmp. */
export async function compare(scope: Scope, one: string, other: string): Promise<Comparison> {
  return await compareFiles(await copyOf(scope, one), await copyOf(scope, other));
}

/** The same without copies, by qemu-img, which also accepts different allocation. */
export async function compareByQemu(one: string, other: string): Promise<Comparison> {
  const result = await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', one, other], { timeoutMs: 180_000 });
  return {
    verdict: result.code === 0 ? 'same' : result.code === 1 ? 'differs' : 'could-not-tell',
    said: `${result.stdout}${result.stderr}`,
  };
}
