/** Why content is sent again, in a word: what metrics carry, where causes are sentences. Pure. */

/** Every word that there is: labels are bounded. */
export const RESYNC_CAUSES = [
  'first-sync',
  'seed',
  'full',
  'compare',
  'compare-everything',
  'resync-by-bitmap',
  'pulled-ahead',
  'verify',
  'grown',
  'other',
] as const;
export type ResyncCause = (typeof RESYNC_CAUSES)[number];

const BEGINNINGS: readonly (readonly [string, ResyncCause])[] = [
  ['first sync from a seed', 'seed'],
  ['first sync', 'first-sync'],
  ['full: ', 'full'],
  ['compare: ', 'compare'],
  ['compare-everything: ', 'compare-everything'],
  ['resync-by-bitmap: ', 'resync-by-bitmap'],
  ['pulled-ahead', 'pulled-ahead'],
  ['verify: ', 'verify'],
  ['volume ', 'grown'],
];

/** The word for a span's cause, from this agent or another version's. */
export function resyncCause(cause: string): ResyncCause {
  return BEGINNINGS.find(([beginning]) => cause.startsWith(beginning))?.[1] ?? 'other';
}

/** Bytes and spans by cause, since somebody began to count; plain numbers. */
export interface ResyncFigures {
  sentBytes: number;
  comparedBytes: number;
  ended: number;
}
export type ResyncsByCause = Partial<Record<ResyncCause, ResyncFigures>>;

/** What is counted of a cause, to be added to. */
export function figuresOf(counted: ResyncsByCause, cause: string): ResyncFigures {
  return (counted[resyncCause(cause)] ??= { sentBytes: 0, comparedBytes: 0, ended: 0 });
}
