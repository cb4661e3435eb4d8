/** Figures as medians, ratios and tables. Pure. */
import { type Memory, type Machine } from './machine.js';
import { type Profile } from './profiles.js';
import { type Proof } from './subjects.js';

/** One run of one subject under one load. */
export interface Run {
  readonly subject: string;
  readonly profile: string;
  readonly round: number;
  /** In the profile's unit. */
  readonly figure: number;
  readonly p99Ms: number;
  /** Of subjects that replicate. */
  readonly proof: Proof | null;
}

export interface Results {
  readonly when: string;
  readonly quick: boolean;
  readonly secondsPerRun: number;
  readonly machine: Machine;
  readonly runs: readonly Run[];
  readonly memory: Readonly<Record<string, Readonly<Record<string, Memory>>>>;
  readonly absent: readonly string[];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The median of the runs that count; NaN when none does. */
export function figureOf(runs: readonly Run[], subject: string, profile: string): number {
  return median(
    runs
      .filter((run) => run.subject === subject && run.profile === profile && run.proof?.counts !== false)
      .map(({ figure }) => figure),
  );
}

const shown = (figure: number, unit: string): string => {
  if (Number.isNaN(figure)) return 'no run counts';
  return unit === 'IOPS' ? `${(figure / 1000).toFixed(1)}k` : figure.toFixed(0);
};

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('   ')
        .trimEnd(),
    )
    .join('\n');
}

/** Medians of each subject under each load, and beside them the ratio to `reference`. */
export function comparison(runs: readonly Run[], profiles: readonly Profile[], reference: string): string {
  const subjects = [...new Set(runs.map(({ subject }) => subject))];
  const head = ['', ...profiles.flatMap(({ name, unit }) => [`${name} (${unit})`, 'ratio'])];
  const body = subjects.map((subject) => [
    subject,
    ...profiles.flatMap(({ name, unit }) => {
      const figure = figureOf(runs, subject, name);
      const ratio = figure / figureOf(runs, reference, name);
      return [shown(figure, unit), Number.isNaN(ratio) ? '' : `${ratio.toFixed(2)}x`];
    }),
  ]);
  return table([head, ...body]);
}

/** Every run of a subject that replicates, and whether it counts. */
export function proofs(runs: readonly Run[]): string {
  const rows = runs.flatMap(({ subject, profile, round, proof }) =>
    proof === null
      ? []
      : [
          [
            subject,
            profile,
            `round ${round}`,
            `${proof.settledMs} ms`,
            proof.counts ? 'counts' : `does not count: ${proof.why}`,
          ],
        ],
  );
  return rows.length === 0 ? '' : table([['replicated runs', '', '', 'durable after', ''], ...rows]);
}

export function memoryTable(memory: Results['memory']): string {
  const rows = Object.entries(memory).flatMap(([subject, parts]) =>
    Object.entries(parts).map(([part, { nowMiB, peakMiB }]) => [
      `${subject}: ${part}`,
      `${nowMiB} MiB`,
      `${peakMiB} MiB`,
    ]),
  );
  return rows.length === 0 ? '' : table([['resident memory', 'now', 'peak'], ...rows]);
}
