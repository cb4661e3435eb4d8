/** The data of a client's options: pure parsing, null for what is malformed. */
import { MAX_STRING_BYTES } from '../wire/constants.js';

/** NBD_OPT_INFO and NBD_OPT_GO. */
export function parseInfoOption(data: Buffer): { name: string; infos: ReadonlySet<number> } | null {
  if (data.length < 6) return null;
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return null;
  const count = data.readUInt16BE(4 + nameBytes);
  const from = 6 + nameBytes;
  if (data.length !== from + 2 * count) return null;
  const infos = new Set<number>();
  for (let index = 0; index < count; index++) infos.add(data.readUInt16BE(from + 2 * index));
  return { name: data.toString('utf8', 4, 4 + nameBytes), infos };
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export function parseMetaOption(data: Buffer): { name: string; queries: readonly string[] } | null {
  if (data.length < 8) return null;
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 8) return null;
  const name = data.toString('utf8', 4, 4 + nameBytes);
  let at = 4 + nameBytes;
  const count = data.readUInt32BE(at);
  at += 4;
  const queries: string[] = [];
  for (let index = 0; index < count; index++) {
    if (data.length - at < 4) return null;
    const length = data.readUInt32BE(at);
    at += 4;
    if (length > data.length - at || length > MAX_STRING_BYTES) return null;
    queries.push(data.toString('utf8', at, at + length));
    at += length;
  }
  return at === data.length ? { name, queries } : null;
}

/**
 * The contexts that the queries mean, in the order the export has them. `namespace:` stands for all of a
 * namespace when listing and for none when selecting, as the specification says of `base:`.
 */
export function selectContexts(
  available: readonly string[],
  queries: readonly string[],
  isSelection: boolean,
): readonly string[] {
  if (queries.length === 0) return isSelection ? [] : available;
  return available.filter((context) =>
    queries.some((query) => query === context || (!isSelection && query.endsWith(':') && context.startsWith(query))),
  );
}
