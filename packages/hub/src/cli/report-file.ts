/** The file of `--report`: looked at before anything is opened, written when there is a verdict, which it cannot change. */
import { constants } from 'node:fs';
import { access, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ConfigFault, plainReason } from '@rephub/platform';

/** Throws a ConfigFault when it could not be written now. Makes nothing: a test that is cut short leaves no empty report. */
export async function refuseUnwritable(file: string): Promise<void> {
  try {
    const found = await stat(file).catch((cause: unknown) => {
      if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return null;
      throw cause;
    });
    if (found?.isDirectory() === true) throw new Error('it is a directory');
    await access(found === null ? dirname(file) : file, constants.W_OK);
  } catch (cause) {
    throw new ConfigFault('bad-value', `--report: cannot write ${file}: ${plainReason(cause)}`, { cause });
  }
}

/** Why it could not be written; null: it was. */
export async function writeReport(file: string, json: string): Promise<string | null> {
  return await writeFile(file, json).then(
    () => null,
    (cause: unknown) => `--report: cannot write ${file}: ${plainReason(cause)}`,
  );
}
