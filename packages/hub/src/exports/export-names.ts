/**
 * What the name of an export asks for: `GROUP/VOLUME`, `GROUP/VOLUME@POINT`, `GROUP/VOLUME!TEST`. Pure.
 *
 * Must not know: which groups there are.
 */
import { NAME_PATTERN } from '@rephub/platform';

/** A moment of a group, as people and scripts write it. */
export type Point =
  /** The newest consistent point, at the time of asking. */
  { readonly kind: 'latest' } | { readonly kind: 'number'; readonly number: number };

export type ExportName =
  | { readonly kind: 'point'; readonly group: string; readonly volume: string; readonly point: Point }
  | { readonly kind: 'test'; readonly group: string; readonly volume: string; readonly test: string }
  | { readonly kind: 'wrong'; readonly message: string };

export type ParsedPoint = Point | { readonly kind: 'wrong'; readonly message: string };

/** The parts of an export's name; `wrong` says what does not fit. */
export function parseExportName(text: string): ExportName {
  const slash = text.indexOf('/');
  if (slash < 0) return wrong(`'${printable(text)}' is not GROUP/VOLUME, GROUP/VOLUME@POINT or GROUP/VOLUME!TEST`);
  const group = text.slice(0, slash);
  if (!NAME_PATTERN.test(group)) return wrong(`'${printable(group)}' is not a group's name`);
  const rest = text.slice(slash + 1);
  const mark = rest.search(/[@!]/);
  const volume = mark < 0 ? rest : rest.slice(0, mark);
  if (!NAME_PATTERN.test(volume)) return wrong(`'${printable(volume)}' is not a volume's name`);
  if (mark < 0) return { kind: 'point', group, volume, point: { kind: 'latest' } };
  const after = rest.slice(mark + 1);
  if (rest[mark] === '!') {
    if (!NAME_PATTERN.test(after)) return wrong(`'${printable(after)}' is not a test's name`);
    return { kind: 'test', group, volume, test: after };
  }
  const point = parsePoint(after);
  return point.kind === 'wrong' ? point : { kind: 'point', group, volume, point };
}

/** A POINT: `latest` or `seq:N`. Names, times and ages are refused, saying that they are not built yet. */
export function parsePoint(text: string): ParsedPoint {
  if (text === 'latest') return { kind: 'latest' };
  const numbered = /^seq:([0-9]{1,16})$/.exec(text);
  if (numbered?.[1] !== undefined) {
    const number = Number(numbered[1]);
    if (Number.isSafeInteger(number)) return { kind: 'number', number };
  }
  return wrong(`'${printable(text)}' is not a point that this version opens: latest or seq:N`);
}

/** The name under which a volume of a point or a test is exported. */
export function exportName(group: string, volume: string, test: string | null = null): string {
  return test === null ? `${group}/${volume}` : `${group}/${volume}!${test}`;
}

function wrong(message: string): { readonly kind: 'wrong'; readonly message: string } {
  return { kind: 'wrong', message };
}

/** What a client sent, fit for a message: short, and without control characters. */
function printable(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]/g, '?');
  return clean.length > 100 ? `${clean.slice(0, 100)}…` : clean;
}
