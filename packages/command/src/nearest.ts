/** Finds the word that was probably meant. */

const MOST_LISTED = 8;

/** The most similar of `words`, or null when none is near (more than a third of the letters differ). */
export function nearest(given: string, words: readonly string[]): string | null {
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(given.length / 3)) + 1;
  for (const word of words) {
    const distance = editDistance(given, word);
    if (distance < bestDistance) {
      best = word;
      bestDistance = distance;
    }
  }
  return best;
}

/** What is said of a key that nobody knows: the one that was probably meant, else those of a short list. */
export function unknownKey(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  if (near !== null) return `unknown key "${key}"; did you mean "${near}"?`;
  const there = known.length === 0 || known.length > MOST_LISTED ? '' : `; there are ${known.join(', ')}`;
  return `unknown key "${key}"${there}`;
}

/** Letters to add, drop or change on the way from one word to the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let at = 1; at <= from.length; at += 1) {
    const next = [at];
    for (let index = 1; index <= to.length; index += 1) {
      const same = from[at - 1] === to[index - 1] ? 0 : 1;
      next.push(Math.min((row[index] ?? 0) + 1, (next[index - 1] ?? 0) + 1, (row[index - 1] ?? 0) + same));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
