/** `repagent status`, `pause`, `resume`, `resync`: asked of the running agent through its control socket. */
import { command, CommandFailure, EXIT, flag, formatDuration, formatRate, formatSize } from '@rephub/command';
import { ConfigFault } from '@rephub/platform';
import { divergenceText, resyncShare } from '@rephub/protocol';
import { namesHub } from '../link/link-status.js';
import { type GroupStatus, type StartingStatus } from '../status/report.js';
import { askAgent, askStatus, stateOption } from './control-client.js';

export const statusCommand = command({
  name: 'status',
  summary: 'say how well the VM is protected right now',
  options: { ...stateOption, json: flag({ help: 'print JSON', inFile: false }) },
  run: async ({ state, json }, { out }) => {
    const status = await askStatus(state);
    if (json) out(`${JSON.stringify(status, null, 2)}\n`);
    else out(table(status.starting ? describeStart(status) : describe(status)));
    return EXIT.done;
  },
});

export const pauseCommand = command({
  name: 'pause',
  summary: 'stop sending, go on marking; stays so across restarts until resume',
  options: stateOption,
  run: async ({ state }, { out }) => {
    await askAgent(state, 'POST', '/pause');
    out('paused: writes are marked, nothing is sent\n');
    return EXIT.done;
  },
});

export const resumeCommand = command({
  name: 'resume',
  summary: 'send again: connects and resyncs what was marked',
  options: stateOption,
  run: async ({ state }, { out }) => {
    await askAgent(state, 'POST', '/resume');
    out('resumed\n');
    return EXIT.done;
  },
});

const MODES = ['async', 'semi-sync', 'sync'];

export const modeCommand = command({
  name: 'mode',
  summary: 'answer guests by another mode, until the next start',
  arguments: [{ name: 'MODE', help: MODES.join(', ') }],
  options: stateOption,
  run: async ({ state }, { arguments: [mode = ''], out }) => {
    if (!MODES.includes(mode)) {
      throw new ConfigFault('bad-value', `MODE: "${mode}" is not allowed, expected ${MODES.join(', ')}`);
    }
    await askAgent(state, 'POST', `/mode?mode=${mode}`);
    const when = mode === 'async' ? '' : ': in force as soon as the hub has everything; see repagent status';
    out(`mode ${mode}${when}\n`);
    return EXIT.done;
  },
});

export const resyncCommand = command({
  name: 'resync',
  summary: 'copy what is marked now, or everything',
  options: {
    ...stateOption,
    compare: flag({ help: 'compare everything by checksum and send what differs', inFile: false }),
    full: flag({ help: 'mark everything and send it all again', inFile: false }),
    yes: flag({ help: 'do it, without the plan being shown first', inFile: false }),
  },
  run: async ({ state, compare, full, yes }, { out }) => {
    if (compare && full) throw new ConfigFault('conflicting-options', '--compare and --full exclude each other');
    if (full && !yes) {
      const status = await askStatus(state);
      if (status.starting) throw new CommandFailure(EXIT.tryAgain, status.reason);
      const bytes = status.volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      out(`would mark and send again all that is allocated of ${formatSize(bytes)} in group ${status.name}\n`);
      throw new ConfigFault('needs-yes', 'nothing was done; add --yes to do it');
    }
    await askAgent(state, 'POST', `/resync?full=${full}&compare=${compare}`);
    if (compare) out('everything is marked and is being compared; what differs is sent\n');
    else out(full ? 'everything is marked and is being sent again\n' : 'what is marked is being sent\n');
    return EXIT.done;
  },
});

type Line = readonly [what: string, text: string];

function table(lines: readonly Line[]): string {
  return lines.map(([what, text]) => `${what.padEnd(12)}${text}\n`).join('');
}

function describeStart({ name, state, reason, upstream }: StartingStatus): Line[] {
  return [
    ['group', `${name}: ${upstream.map(({ volume }) => volume).join(', ')}`],
    ['state', `${state} (${reason})`],
    ...upstream.map(({ volume, uri, up, since, tries, reason: last }): Line => {
      const turn = since === null ? ', not its turn yet' : up ? '' : ` since ${since}, tried ${tries} times`;
      return ['upstream', `${volume} ${uri} ${up ? 'up' : 'awaited'}${turn}${last === null ? '' : `: ${last}`}`];
    }),
  ];
}

function describe(status: GroupStatus): Line[] {
  const lines: Line[] = [
    [
      'group',
      `${status.name}: ${status.volumes.map(({ name, sizeBytes }) => `${name} ${formatSize(sizeBytes)}`).join(', ')}`,
    ],
    ['state', `${status.state} (${status.reason})`],
    ['mode', status.mode === status.effectiveMode ? status.mode : `${status.mode}, now ${status.effectiveMode}`],
    ['RPO', status.rpoSeconds === null ? 'unknown' : formatDuration(Math.round(status.rpoSeconds * 1000))],
    ['lag', status.lagBytes === null ? 'unknown' : formatSize(status.lagBytes)],
    ['hub', hubLine(status)],
    ...status.upstream.map(({ volume, uri, state, reason }): Line => [
      'upstream',
      `${volume} ${uri} ${state}${reason === null ? '' : `: ${reason}`}`,
    ]),
    ['clients', status.clients.map(({ peer, exportName }) => `${peer} on ${exportName ?? '?'}`).join(', ') || 'none'],
    ['marked', `${formatSize(status.dirtyBytes)} to copy, ${status.hotExtents} hot extents of 4 MiB`],
    ['numbers', `newest record ${status.seq}, durable at the hub up to ${status.durableSeq}`],
  ];
  if (status.maxBytesPerSecond !== null || status.maxRateSchedule !== null) {
    lines.push(['max rate', rateText(status.maxBytesPerSecond, status.maxRateSchedule)]);
  }
  if (status.divergence !== null) {
    const { parted, agent, hub } = divergenceText(status.divergence);
    lines.push([status.divergence.kind, `parted ${parted}`], ['  the agent', agent], ['  the hub', hub]);
  }
  if (status.resync !== null) {
    lines.push(['resync', describeResync(status.resync)]);
    if (status.courtesy.yielding) lines.push(['  yields', describeCourtesy(status.courtesy)]);
  }
  if (status.lastResync !== null) {
    const { cause, bytesSent, bytesCompared, finishedAt } = status.lastResync;
    lines.push([
      'last resync',
      `${cause}: ${formatSize(bytesCompared)} compared, ${formatSize(bytesSent)} sent, done ${finishedAt}`,
    ]);
  }
  return lines;
}

function rateText(bytesPerSecond: number | null, schedule: string | null): string {
  const rate = bytesPerSecond === null ? 'none' : formatRate(bytesPerSecond);
  return schedule === null ? rate : `${rate} now, by ${schedule}`;
}

function describeResync(resync: NonNullable<GroupStatus['resync']>): string {
  const { cause, bytesCompared, bytesPerSecond, etaSeconds, holeBytesTotal = 0 } = resync;
  const { dataBytesDone, dataBytes } = resyncShare(resync);
  const compared = (bytesCompared ?? 0) === 0 ? '' : `, ${formatSize(bytesCompared ?? 0)} compared`;
  const holes = holeBytesTotal === 0 ? '' : ` and ${formatSize(holeBytesTotal)} of holes`;
  const rate = bytesPerSecond === undefined ? '' : `, ${formatRate(bytesPerSecond)}`;
  const left = etaSeconds === null ? '' : `, ${formatDuration(Math.round(etaSeconds * 1000))} left`;
  return `${cause}: ${formatSize(dataBytesDone)} of ${formatSize(dataBytes)}${holes}${compared}${rate}${left}`;
}

/** By what guests notice most. */
function describeCourtesy({ speed, latency }: GroupStatus['courtesy']): string {
  const told = latency.flatMap(({ volume, kind, aloneP99Ms, besideP99Ms }) =>
    aloneP99Ms === null || besideP99Ms === null ? [] : [{ volume, kind, aloneP99Ms, besideP99Ms }],
  );
  told.sort((one, other) => other.besideP99Ms / other.aloneP99Ms - one.besideP99Ms / one.aloneP99Ms);
  const [worst] = told;
  const most = speed === 1 ? 'not at all' : `to ${(100 * speed).toFixed(speed < 0.1 ? 1 : 0)} % of full speed at most`;
  if (worst === undefined) return `to guests, ${most}`;
  const { volume, kind, aloneP99Ms, besideP99Ms } = worst;
  return `to guests, ${most}; p99 of a ${kind} on ${volume} ${besideP99Ms.toFixed(1)} ms, alone ${aloneP99Ms.toFixed(1)} ms`;
}

function hubLine({ hub }: GroupStatus): string {
  if (hub === null) return 'none configured';
  if (hub.connected) return `connected to ${hub.connectedTo ?? '?'}`;
  const reason = hub.reason ?? 'not connected';
  // With one hub its address in the reason is enough.
  const [only = '', ...others] = hub.urls;
  return others.length === 0 && namesHub(reason, only) ? reason : `${hub.urls.join(', ')}: ${reason}`;
}
