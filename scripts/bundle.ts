/**
 * The second half of `npm run build`: the code of each package as one file for each of its entry points, beside the types
 * that tsc wrote. Node loads a file in about a millisecond, and a command of some three hundred files starts in half a
 * second: as long is a guest's disk away while its agent is restarted.
 *
 * Other packages stay imports, so that each package depends on what it says it depends on. What entry points share is in
 * files of its own, loaded once: a class is the same class through whichever of them it came.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { build, type OutputFile } from 'esbuild';

const PACKAGES = join(import.meta.dirname, '../packages');

interface Manifest {
  readonly exports: Readonly<Record<string, { readonly '@rephub/source': string }>>;
  readonly bin?: Readonly<Record<string, string>>;
}

/** What others import, and what the package's commands run. */
async function entryPoints(directory: string): Promise<string[]> {
  const manifest = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8')) as Manifest;
  const commands = await Promise.all(
    Object.values(manifest.bin ?? {}).map(async (script) => {
      const imported = /'\.\.\/dist\/(.+)\.js'/.exec(await readFile(join(directory, script), 'utf8'))?.[1];
      if (imported === undefined) throw new Error(`${join(directory, script)} imports nothing of dist`);
      return `src/${imported}.ts`;
    }),
  );
  return [...Object.values(manifest.exports).map((entry) => entry['@rephub/source']), ...commands];
}

function isPart({ path }: OutputFile): boolean {
  return path.includes('/dist/parts/');
}

/** Never half there. */
async function put({ path, contents }: OutputFile): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.new`, contents);
  await rename(`${path}.new`, path);
}

/** Removes code of entry points or parts that are no more, or of a build of another kind. */
async function dropOldCode(directory: string, written: readonly string[]): Promise<void> {
  const files = (await readdir(join(directory, 'dist'), { recursive: true })).map((name) => join('dist', name));
  const old = files.filter((name) => /\.js(\.map)?$/.test(name) && !written.includes(name));
  await Promise.all(old.map(async (name) => await rm(join(directory, name))));
}

for (const name of await readdir(PACKAGES)) {
  const directory = join(PACKAGES, name);
  const { outputFiles } = await build({
    absWorkingDir: directory,
    entryPoints: await entryPoints(directory),
    outdir: 'dist',
    outbase: 'src',
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    sourcemap: 'linked',
    write: false,
    logLevel: 'warning',
  });
  // A command that begins meanwhile finds one whole set of files or the other: what they import is there before them.
  const [parts, entries] = [outputFiles.filter(isPart), outputFiles.filter((file) => !isPart(file))];
  for (const files of [parts, entries]) await Promise.all(files.map(put));
  await dropOldCode(
    directory,
    outputFiles.map(({ path }) => relative(directory, path)),
  );
}
