/** `rephub status` and `rephub groups`. */
import {
  command,
  type CommandContext,
  flag,
  formatDuration,
  formatJson,
  formatSize,
  formatTable,
  tableWidth,
  type ValuesOf,
} from '@rephub/command';
import { divergenceText, resyncShare } from '@rephub/protocol';
import type { GroupStatus } from '../group/group-status.js';
import { askGroups, hubOption } from './api.js';

const WATCH_EVERY_MS = 1000;

const statusOptions = {
  ...hubOption,
  json: flag({ help: 'print JSON', inFile: false }),
  watch: flag({ help: 'print it again every second, until interrupted', inFile: false }),
};

export const statusCommand = command({
  name: 'status',
  summary: 'how well each group is protected',
  arguments: [{ name: 'GROUP', help: 'only this one', optional: true }],
  options: statusOptions,
  run: async (values, context) => {
    do {
      const text = await statusText(values, context);
      // To a terminal the new table goes over the old one; to a pipe one after the other.
      context.out(values.watch && !values.json && process.stdout.isTTY ? `\x1b[H\x1b[2J${text}` : text);
      if (values.watch) await new Promise((resolve) => setTimeout(resolve, WATCH_EVERY_MS));
    } while (values.watch);
    return undefined;
  },
});

async function statusText(values: ValuesOf<typeof statusOptions>, context: CommandContext): Promise<string> {
  const groups = await askGroups(values.http, context, context.arguments[0]);
  if (values.json) return values.watch ? `${JSON.stringify({ groups })}\n` : formatJson({ groups });
  const rows = groups.map((group) => [
    group.name,
    group.state,
    rpoText(group),
    group.lagBytes === null ? '?' : formatSize(group.lagBytes),
    String(group.durableSeq),
    resyncText(group),
    group.reason,
  ]);
  const table = formatTable(
    [
      { title: 'GROUP' },
      { title: 'STATE' },
      { title: 'RPO', right: true },
      { title: 'LAG', right: true },
      { title: 'DURABLE', right: true },
      { title: 'RESYNC' },
      { title: 'REASON' },
    ],
    rows,
    { width: tableWidth(process.stdout), whenEmpty: 'no groups yet: start an agent with --hub' },
  );
  return table + groups.map((group) => partingText(group) + enrolledText(group)).join('');
}

/** Who has what since two lines parted; in full, since nothing of it can be left out. */
function partingText({ name, divergence }: GroupStatus): string {
  if (divergence === null) return '';
  const { parted, agent, hub } = divergenceText(divergence);
  return `\n${name}: ${divergence.kind}, parted ${parted}\n  the agent: ${agent}\n  the hub: ${hub}\n`;
}

/** Whoever comes next becomes the group's agent: nobody should overlook that. */
function enrolledText({ name, enrolled }: GroupStatus): string {
  if (!enrolled) return '';
  return `\n${name}: the next unknown agent takes it over; 'rephub enroll ${name} --cancel' takes that back\n`;
}

function rpoText(group: GroupStatus): string {
  if (group.rpoSeconds !== null) return formatDuration(group.rpoSeconds * 1000);
  return group.state === 'unknown' || group.rpoSince ? `≥ ${formatDuration(group.rpoAtLeastSeconds * 1000)}` : '?';
}

function resyncText({ resync }: GroupStatus): string {
  if (resync === null) return '-';
  const { percent, dataBytes } = resyncShare(resync);
  const eta = resync.etaSeconds === null ? '' : `, ${formatDuration(resync.etaSeconds * 1000)} left`;
  const rate = resync.bytesPerSecond === undefined ? '' : `, ${formatSize(resync.bytesPerSecond)}/s`;
  return `${percent} % of ${formatSize(dataBytes)}${rate}${eta}`;
}

export const groupsCommand = command({
  name: 'groups',
  summary: 'the groups and their volumes',
  options: { ...hubOption, json: flag({ help: 'print JSON', inFile: false }) },
  run: async (values, context) => {
    const groups = await askGroups(values.http, context, undefined);
    if (values.json) {
      context.out(formatJson({ groups }));
      return undefined;
    }
    const rows = groups.flatMap((group) =>
      group.volumes.map((volume) => [
        group.name,
        volume.name,
        formatSize(volume.sizeBytes),
        group.state,
        group.generation ?? '-',
      ]),
    );
    context.out(
      formatTable(
        [
          { title: 'GROUP' },
          { title: 'VOLUME' },
          { title: 'SIZE', right: true },
          { title: 'STATE' },
          { title: 'GENERATION' },
        ],
        rows,
        { width: tableWidth(process.stdout), whenEmpty: 'no groups yet: start an agent with --hub' },
      ),
    );
    return undefined;
  },
});
