// `npm run sim:mutants` takes long and is run rarely: what a change of the code does to a planted bug shows here at once.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MUTANTS } from './list.js';

const PACKAGES = join(import.meta.dirname, '../../../packages');

test.each(MUTANTS.map(({ id, file, find }) => ({ id, file, find })))(
  'the planted bug $id has its place in $file, once',
  async ({ file, find }) => {
    const pieces = (await readFile(join(PACKAGES, file), 'utf8')).split(find);
    expect(pieces).toHaveLength(2);
  },
);
