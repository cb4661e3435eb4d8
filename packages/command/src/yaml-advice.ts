/**
 * What is to be done about YAML that cannot be read. The parser's own words are about YAML's grammar; whoever has written a file
 * of options by hand wants to know what to change.
 */

const QUOTES = 'put the value in quotes';
const INDENT =
  'keys of one level begin in the same column, what belongs to them further right, and brackets are closed';

/** By the parser's code. */
const ADVICE: Readonly<Record<string, string>> = {
  ALIAS_PROPS: `a value that begins with "*" stands for another one: ${QUOTES}`,
  BAD_ALIAS: `a value that begins with "*" or "&" has a meaning of its own: ${QUOTES}`,
  BAD_DIRECTIVE: `a line that begins with "%" has a meaning of its own: ${QUOTES}`,
  BAD_DQ_ESCAPE: 'in double quotes "\\" begins an escape: write "\\\\", or use single quotes',
  BAD_INDENT: `the line begins in the wrong column, or a bracket before it is open: ${INDENT}`,
  BAD_SCALAR_START: `a value cannot begin with this character: ${QUOTES}`,
  BLOCK_AS_IMPLICIT_KEY: `a second ": " in this value, or a line below it that begins too far right: ${QUOTES}, or move that line`,
  BLOCK_IN_FLOW:
    'between [ ] or { } everything is separated by commas: close the bracket, or write one item a line after "- "',
  DUPLICATE_KEY: 'this key is there twice: keep one',
  MISSING_CHAR: 'up to here a closing quote or bracket, a comma, or the ": " after a key is missing: add it',
  MULTILINE_IMPLICIT_KEY:
    'this line and the next do not go together: a key is followed by ": ", an item of a list begins with "- "',
  MULTIPLE_DOCS: '"---" begins a second document: a file holds one',
  TAB_AS_INDENT: 'a tab in front of a line: use spaces',
  TAG_RESOLVE_FAILED: `a value that begins with "!" has a meaning of its own: ${QUOTES}`,
};

/** `message` is the parser's, for what is rare. */
export function yamlAdvice(code: string, message: string): string {
  return ADVICE[code] ?? `this is no YAML (${message}): ${QUOTES} where it has special characters`;
}
