/**
 * The words of a command line before they are parsed: `help NAME` becomes `NAME --help`, and a command that does not
 * exist stays alone, so that it is refused as that and not answered with the help of what is around it. Pure; knows
 * names of commands, no options.
 */

/** The words to parse. `names` are the program's commands, `checkpoint create` with a space; one that is empty takes all words as they are. */
export function wordsToParse(names: readonly string[], words: readonly string[]): readonly string[] {
  if (names.includes('')) return words;
  const [first, ...rest] = words;
  const asked = first === 'help' && !names.includes('help') ? [...rest, '--help'] : words;
  const path: string[] = [];
  for (const word of asked) {
    if (word.startsWith('-') || names.includes(path.join(' '))) return asked;
    path.push(word);
    const here = path.join(' ');
    if (!names.some((name) => name === here || name.startsWith(`${here} `))) return path;
  }
  return asked;
}
