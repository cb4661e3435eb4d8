/** What a check finds in its environment: the NBD URIs of the test's exports, and which test it is. Pure. */

export interface TestExport {
  readonly volume: string;
  readonly sizeBytes: number;
  readonly uris: readonly string[];
}

/** All that a check finds begins with it; what it inherits that does is somebody else's. */
export const TEST_PREFIX = 'REPHUB_TEST_';

/**
 * `REPHUB_TEST_URI` is the first volume; each has its own `REPHUB_TEST_URI_<VOLUME>`, other characters than letters and digits as `_`.
 * One that would be of several volumes is left out, so that no check looks at the wrong one; `REPHUB_TEST_URIS` has all.
 */
export function checkEnvironment(test: {
  readonly group: string;
  readonly name: string;
  readonly seq: number;
  readonly pointTime: string;
  readonly exports: readonly TestExport[];
}): Record<string, string> {
  const environment: Record<string, string> = {
    REPHUB_TEST_GROUP: test.group,
    REPHUB_TEST_NAME: test.name,
    REPHUB_TEST_NUMBER: String(test.seq),
    REPHUB_TEST_TIME: test.pointTime,
    REPHUB_TEST_VOLUMES: test.exports.map((entry) => entry.volume).join(' '),
  };
  const all = test.exports.map(({ uris }) => preferredUri(uris));
  if (!all.includes(null)) environment['REPHUB_TEST_URIS'] = all.join(' ');
  const shared = new Set(sharedVariables(test.exports).map(({ variable }) => variable));
  for (const { volume, uris } of test.exports) {
    const uri = preferredUri(uris);
    if (uri === null) continue;
    environment['REPHUB_TEST_URI'] ??= uri;
    const variable = variableOf(volume);
    if (!shared.has(variable)) environment[variable] = uri;
  }
  return environment;
}

/** Variables that would be of several volumes, as `data-1` and `data_1`. */
export function sharedVariables(
  exports: readonly Pick<TestExport, 'volume'>[],
): { readonly variable: string; readonly volumes: readonly string[] }[] {
  const byVariable = new Map<string, string[]>();
  for (const { volume } of exports) {
    const variable = variableOf(volume);
    byVariable.set(variable, [...(byVariable.get(variable) ?? []), volume]);
  }
  return [...byVariable]
    .filter(([, volumes]) => volumes.length > 1)
    .map(([variable, volumes]) => ({ variable, volumes }));
}

function variableOf(volume: string): string {
  return `${TEST_PREFIX}URI_${volume.replace(/[^A-Za-z0-9]/g, '_')}`;
}

/** A Unix socket where there is one: no port to guess, and faster. */
export function preferredUri(uris: readonly string[]): string | null {
  return uris.find((uri) => uri.startsWith('nbd+unix:')) ?? uris[0] ?? null;
}
