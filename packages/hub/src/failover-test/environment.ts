/** What a check finds in its environment: the NBD URIs of the test's exports, and which test it is. Pure. */

export interface TestExport {
  readonly volume: string;
  readonly sizeBytes: number;
  readonly uris: readonly string[];
}

/** `REPHUB_TEST_URI` is the first volume; each has its own `REPHUB_TEST_URI_<VOLUME>`, other characters than letters and digits as `_`. */
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
  for (const { volume, uris } of test.exports) {
    const uri = preferredUri(uris);
    if (uri === null) continue;
    environment['REPHUB_TEST_URI'] ??= uri;
    environment[`REPHUB_TEST_URI_${volume.replace(/[^A-Za-z0-9]/g, '_')}`] = uri;
  }
  return environment;
}

/** A Unix socket where there is one: no port to guess, and faster. */
export function preferredUri(uris: readonly string[]): string | null {
  return uris.find((uri) => uri.startsWith('nbd+unix:')) ?? uris[0] ?? null;
}
