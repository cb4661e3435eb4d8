/**
 * What this version can do beyond protocol 1. The agent names all of it in Hello, the hub answers in Welcome with what
 * of that it can do too; only that is used (promise UPGRADE). Codecs are features as well (`codecFeatures`), of the machine.
 */
import { HASHES_FEATURE } from './hashes.js';

/** The hub says in its beats which differences it keeps as events. */
export const KEPT_EVENTS_FEATURE = 'kept-events';

/** Those of this version that depend on no machine. */
export const FEATURES: readonly string[] = [HASHES_FEATURE, KEPT_EVENTS_FEATURE];

/** What of the other side's features this side has too; `codecs`: those that come with its codecs. */
export function commonFeatures(theirs: readonly string[], codecs: readonly string[] = []): string[] {
  return [...FEATURES, ...codecs].filter((feature) => theirs.includes(feature));
}
