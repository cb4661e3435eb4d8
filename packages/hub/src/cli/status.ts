/** `rephub status` and `rephub groups`. */
import {
  command,
  type CommandContext,
  describeError,
  EXIT,
  exitCodeOf,
  flag,
  formatDuration,
  formatJson,
  formatRate,
  formatSize,
  formatTable,
  tableWidth,
  type ValuesOf,
} from '@rephub/command';
import { divergenceText, resyncShare } from '@rephub/protocol';
import type { GroupStatus } from '../group/group-status.js';
import { askGroups, hubOption } from './api.js';
import { rpoText } from './rpo-text.js';
import { type Showing, WatchScreen } from './watch-screen.js';

const WATCH_EVERY_MS = 1000;

const statusOptions = {
  ...hubOption,
  json: flag({ help: 'print JSON', inFile: false }),
  watch: flag({
    help: 'print it again every second, until interrupted; a hub that is away is waited for',
    inFile: false,
  }),
};

export const statusCommand = command({
  name: 'status',
  summary: 'how well each group is protected',
  arguments: [{ name: 'GROUP', help: 'only this one', optional: true }],
  options: statusOptions,
  run: async (values, context) => {
    if (values.watch) return await watch(values, context);
    context.out(await statusText(values, context));
    return undefined;
  },
});

/** Until it is interrupted, or the hub refuses: a hub that is being restarted is waited for. */
async function watch(values: ValuesOf<typeof statusOptions>, context: CommandContext): Promise<never> {
  const screen = new WatchScreen(!values.json && process.stdout.isTTY);
  for (;;) {
    const { out, err } = await look(screen, values, context);
    if (out !== '') context.out(out);
    if (err !== '') context.err(err);
    await new Promise((resolve) => setTimeout(resolve, WATCH_EVERY_MS));
  }
}

async function look(
  screen: WatchScreen,
  values: ValuesOf<typeof statusOptions>,
  context: CommandContext,
): Promise<Showing> {
  try {
    return screen.answered(await statusText(values, context), Date.now());
  } catch (thrown) {
    if (!screen.hasAnswered || exitCodeOf(thrown) !== EXIT.tryAgain) throw thrown;
    return screen.away(describeError(thrown, false), Date.now());
  }
}

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
  return table + groups.map((group) => partingText(group) + enrolledText(group) + leftText(group)).join('');
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

/** Room that a test still holds although it is over. */
function leftText({ name, testsLeftBehind = [] }: Partial<GroupStatus>): string {
  return testsLeftBehind
    .map(({ name: test, bytes, why }) => {
      const held = bytes === null ? 'its room' : formatSize(bytes);
      return `\n${name}: test ${test} is over and holds ${held} still, it is tried again: ${why}\n`;
    })
    .join('');
}

function resyncText({ resync }: GroupStatus): string {
  if (resync === null) return '-';
  const { percent, dataBytes } = resyncShare(resync);
  const eta = resync.etaSeconds === null ? '' : `, ${formatDuration(resync.etaSeconds * 1000)} left`;
  const rate = resync.bytesPerSecond === undefined ? '' : `, ${formatRate(resync.bytesPerSecond)}`;
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
    const rows = groups.flatMap((group) => {
      const { name, state, reason, generation, volumes, seeds } = group;
      const known = volumes.map((volume) => [volume.name, formatSize(volume.sizeBytes), state]);
      // A group whose agent has not told its volumes, or that could not be opened, is one all the same.
      const others = seeds.map((seed) => [seed.name, formatSize(seed.sizeBytes), `${state} (${reason})`]);
      const shown = [known, others, [['-', '-', `${state} (${reason})`]]].find((some) => some.length > 0) ?? [];
      return shown.map((cells) => [name, ...cells, generation ?? '-']);
    });
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
