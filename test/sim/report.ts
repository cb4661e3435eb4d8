/** What is printed at the end of a run of many seeds. */
import { UNREACHABLE_ROWS, type Counts, type Coverage } from './coverage.js';

const WIDTH = 118;

export function reportOf(
  coverage: Coverage,
  cpuSeconds: number,
  promises: Readonly<Record<string, string | null>>,
  violations: number,
): string {
  const unchecked = Object.entries(promises).filter(([, why]) => why !== null);
  const lines = [
    `${coverage.seeds} seeds, ${(coverage.virtualMs / 3_600_000).toFixed(2)} virtual hours, ${coverage.requests} guest requests, ${coverage.records} records, ${coverage.crashes} crashes`,
    `${cpuSeconds.toFixed(1)} s of CPU: ${((60 * coverage.seeds) / cpuSeconds).toFixed(1)} seeds a CPU minute`,
    ...section('faults', coverage.faults),
    ...section('lineage rows', coverage.rows),
    ...section('came up', coverage.happenings),
    ...section('promises checked', coverage.promises),
    `not checked: ${unchecked.map(([id, why]) => `${id} (${why ?? ''})`).join(', ')}`,
    `rows out of reach: ${Object.entries(UNREACHABLE_ROWS)
      .map(([row, why]) => `${row} (${why})`)
      .join('; ')}`,
    `${violations} violations`,
  ];
  return `${lines.join('\n')}\n`;
}

/** A title and its figures, wrapped. */
function section(title: string, counts: Counts): string[] {
  const lines: string[] = [];
  let line = `${title}:`;
  for (const [what, times] of Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const item = ` ${what} ${times}`;
    if (line.length + item.length > WIDTH) {
      lines.push(line);
      line = '  ';
    }
    line += item;
  }
  return [...lines, line];
}
