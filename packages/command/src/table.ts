/** Tables for terminals: columns as wide as they must be, the widest cut where the line would be too long. */

export interface Column {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly right?: boolean;
}

/** How wide a table may be: the terminal's width; what a file or another program reads is never cut. */
export function tableWidth(stream: { readonly isTTY?: boolean; readonly columns?: number }): number {
  if (stream.isTTY !== true) return Infinity;
  return stream.columns === undefined || stream.columns === 0 ? UNKNOWN_WIDTH : stream.columns;
}

const UNKNOWN_WIDTH = 120;
const GAP = '  ';
const LEAST_WIDTH = 6;

/** Lines of at most `width` characters, with a line of titles; one line that says so when there are no rows. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  options: { readonly width?: number; readonly whenEmpty?: string } = {},
): string {
  if (rows.length === 0) return options.whenEmpty === undefined ? '' : `${options.whenEmpty}\n`;
  const clean = rows.map((row) => columns.map((_, index) => oneLine(row[index] ?? '')));
  const widths = columns.map((column, index) =>
    Math.max(lengthOf(column.title), ...clean.map((row) => lengthOf(row[index] ?? ''))),
  );
  shrink(widths, (options.width ?? 80) - GAP.length * (columns.length - 1));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => fit(cell, widths[index] ?? 0, columns[index]?.right ?? false))
      .join(GAP)
      .trimEnd();
  return `${[columns.map((column) => column.title), ...clean].map(line).join('\n')}\n`;
}

/** JSON for `--json`, with a line break at its end. */
export function formatJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Takes from the widest column until all fit. */
function shrink(widths: number[], available: number): void {
  for (let total = widths.reduce((sum, width) => sum + width, 0); total > available; total -= 1) {
    const widest = Math.max(...widths);
    if (widest <= LEAST_WIDTH) return;
    widths[widths.lastIndexOf(widest)] = widest - 1;
  }
}

function fit(cell: string, width: number, right: boolean): string {
  const letters = Array.from(cell);
  const shown = letters.length > width ? `${letters.slice(0, width - 1).join('')}…` : cell;
  const pad = ' '.repeat(width - lengthOf(shown));
  return right ? pad + shown : shown + pad;
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}

/** Control characters in what others sent must not reach a terminal. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}
