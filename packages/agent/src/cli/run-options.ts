/** The options of `repagent run`, and the AgentConfig that they make. */
import {
  address,
  choice,
  count,
  duration,
  flag,
  logOptions,
  name,
  optional,
  orWord,
  type Parsed,
  path,
  rate,
  repeated,
  required,
  scalar,
  size,
  structure,
  text,
  textType,
  type ValuesOf,
  withDefault,
  yesNo,
} from '@rephub/command';
import { parseDeviceUri, parseListenUri } from '@rephub/nbd';
import { type Address, ConfigFault, isLocalAddress } from '@rephub/platform';
import { dialAddress, parseHubUrl } from '@rephub/protocol';
import { hostname } from 'node:os';
import { z } from 'zod';
import { type AgentConfig, type VolumeConfig } from '../config.js';
import { type RateLimit } from '../resync/rate-cap.js';
import { parseSchedule } from '../resync/rate-schedule.js';
import { refuseSameUri } from '../upstream/shared-upstream.js';

const MIB = 1024 * 1024;
const TIB = MIB * MIB;

const plainRate = orWord('none', null, rate({ min: 64 * 1024, max: TIB }));
/** A rate, or one for each time of day. */
const rateLimit = textType<RateLimit>((given) => {
  const read = (part: string): Parsed<number | null> => {
    const parsed = plainRate.safeParse(part);
    return parsed.success ? { value: parsed.data } : { expected: parsed.error.issues[0]?.message ?? 'a rate' };
  };
  return /[=,]/.test(given) ? parseSchedule(given, read) : read(given);
});

/** No Unix socket: the control socket is one. Other machines are kept out, as there is no TLS and no login. */
const httpAddress = textType<Extract<Address, { kind: 'tcp' }>>((given) => {
  const parsed = address().safeParse(given);
  if (!parsed.success || parsed.data.kind !== 'tcp') return { expected: 'HOST:PORT or [V6]:PORT' };
  return isLocalAddress(parsed.data) ? { value: parsed.data } : { expected: 'an address of loopback, it has no TLS' };
});

const uris = z.union([scalar(text()), z.array(scalar(text()))]);
const volumesSchema = z
  .array(z.strictObject({ name: scalar(name()), upstream: scalar(text()), listen: uris.optional() }))
  .min(1, 'at least one volume')
  .max(255, 'at most 255 volumes');

export const RUN_OPTIONS = {
  group: required(name(), { placeholder: 'NAME', help: 'the VM' }),
  volume: withDefault(name(), 'disk0', { placeholder: 'NAME', help: 'the name of the only volume', unless: 'volumes' }),
  upstream: optional(text('an NBD URI or file:PATH'), {
    placeholder: 'URI',
    help: 'the real disk: nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH or file:PATH',
  }),
  volumes: structure(volumesSchema, {
    help: 'several volumes: [{name, upstream, listen}], instead of --volume and --upstream',
  }),
  listen: repeated(text('an NBD URI'), {
    placeholder: 'URI',
    help: 'what the VM connects to; export name = volume name, the empty name = the only volume',
  }),
  hub: repeated(text('a hub URL'), {
    placeholder: 'URL',
    help: 'tcp://HOST:PORT or unix:///PATH, tried in order; without one only changes are tracked',
  }),
  state: required(path(), { placeholder: 'DIR', help: 'marks and identity; locked against a second agent' }),
  mode: withDefault(choice('async', 'semi-sync', 'sync'), 'async', {
    placeholder: 'MODE',
    help: 'a write is answered when upstream has it, or when the hub has received it too, or has it durably',
  }),
  'allow-shrink': flag({ help: 'a volume that has become smaller since the last start is meant to be so' }),
  'on-congestion': withDefault(choice('pull-ahead', 'block'), 'pull-ahead', {
    placeholder: 'HOW',
    help: 'window full: pull-ahead (mark, resync later) or block (writes wait)',
  }),
  'on-disconnect': withDefault(choice('continue', 'freeze'), 'continue', {
    placeholder: 'HOW',
    help: 'hub away: continue (mark, resync later) or freeze (writes wait for it)',
  }),
  durability: withDefault(choice('host', 'process'), 'host', {
    placeholder: 'WHAT',
    help: 'marks survive a power cut of the host, or only a killed agent process',
  }),
  'hot-extents': withDefault(count({ min: 16, max: 16384 }), '1237', {
    placeholder: 'N',
    help: 'extents of 4 MiB that may be written to without waiting for a mark, per group',
  }),
  granularity: withDefault(size({ min: 4096, max: MIB }), '64KiB', {
    placeholder: 'SIZE',
    help: 'bytes per bit of the dirty bitmap, a power of two; fixed when the state directory is made',
  }),
  window: withDefault(size({ min: MIB, max: 64 * 1024 * MIB }), '64MiB', {
    placeholder: 'SIZE',
    help: 'records that the hub has not durably, at most; held in memory',
  }),
  compress: withDefault(choice('auto', 'off', 'lz4', 'zstd'), 'auto', {
    placeholder: 'HOW',
    help: 'what goes to the hub: auto (where the link is slower than compressing), off, or with lz4 or zstd wherever data shrinks',
  }),
  'max-rate': withDefault(rateLimit, 'none', {
    placeholder: 'RATE',
    help: "bytes a second that a resync reads, at most; or by local time, the first that holds: 'Mon-Fri 08:00-18:00=10MiB,none'",
  }),
  'verify-every': withDefault(orWord('none', null, duration({ min: 60_000, max: 366 * 86_400_000 })), 'none', {
    placeholder: 'TIME',
    help: 'compare everything with the hub so often, while the guest runs; none: only on command',
  }),
  'verify-rate': withDefault(orWord('none', null, rate({ min: 64 * 1024, max: TIB })), '64MiB', {
    placeholder: 'RATE',
    help: 'bytes a second of a verification, at most',
  }),
  'start-sample': withDefault(count({ max: 65_536 }), '64', {
    placeholder: 'N',
    help: 'random 64 KiB regions of an NBD upstream that each start compares with the hub, to notice a disk changed meanwhile; 0: none',
  }),
  retries: withDefault(orWord('forever', Infinity, count({ max: 1_000_000 })), '5', {
    placeholder: 'N',
    help: 'how often an operation that failed (EIO, ESHUTDOWN, connection lost) is repeated; forever; 0: errors pass',
  }),
  'retry-delay': withDefault(duration({ min: 1, max: 3_600_000 }), '2s', {
    placeholder: 'TIME',
    help: 'before the first repetition',
  }),
  'retry-exponential': withDefault(yesNo(), 'yes', {
    placeholder: 'YES|NO',
    help: 'the delay doubles from try to try',
  }),
  'retry-readonly': withDefault(choice('no', 'yes', 'on-write-failure'), 'no', {
    placeholder: 'WHEN',
    help: 'go on read-only: never, after the first failure, or after the first failed write',
  }),
  connections: withDefault(count({ min: 1, max: 16 }), '4', {
    placeholder: 'N',
    help: 'connections to an NBD upstream, at most; more than one only as --multi-conn allows',
  }),
  'multi-conn': withDefault(choice('auto', 'plugin', 'disable', 'emulate', 'unsafe'), 'auto', {
    placeholder: 'MODE',
    help: 'several upstream connections, and what guests are told: as upstream allows (auto, plugin), never, made safe by flushing all (emulate), or blindly (unsafe)',
  }),
  'track-dirty': withDefault(choice('fast', 'connection', 'off'), 'fast', {
    placeholder: 'HOW',
    help: 'which flushes are left out: with nothing written on any connection (fast), on that connection (connection), none (off)',
  }),
  'idle-flush': withDefault(orWord('never', Infinity, duration({ min: 100, max: 86_400_000 })), '30s', {
    placeholder: 'TIME',
    help: 'an upstream connection idle for so long is flushed, which keeps it alive; never',
  }),
  'replay-buffer': withDefault(size({ min: 0, max: 64 * 1024 * MIB }), '64MiB', {
    placeholder: 'SIZE',
    help: 'what was written since the last upstream flush, kept per volume to be written again when upstream is lost; 0: not kept',
  }),
  'request-timeout': withDefault(duration({ min: 100, max: 3_600_000 }), '30s', {
    placeholder: 'TIME',
    help: 'an upstream that answers nothing for so long is reconnected; flushes may take twenty times as long while it answers who connects',
  }),
  'busy-poll': withDefault(orWord('auto', null, duration({ max: 10 })), 'auto', {
    placeholder: 'TIME',
    help: 'while one request at a time is under way, look so long for the next event before sleeping; 0: never; auto: 50us without a hub, which may need the processor, else 0',
  }),
  'wait-upstream': withDefault(yesNo(), 'no', {
    placeholder: 'YES|NO',
    help: 'start before upstream is there; guests are served when it is',
  }),
  'read-cache': withDefault(size({ min: 0, max: 1024 * MIB }), '0', {
    placeholder: 'SIZE',
    help: 'sequential reads are read ahead up to this',
  }),
  http: optional(httpAddress, { placeholder: 'ADDR', help: 'serve /metrics, /healthz and /status there, on loopback' }),
  ...logOptions,
};

export type RunValues = ValuesOf<typeof RUN_OPTIONS>;

/** `socketsPassed`: guests come through sockets that are open already. Throws a ConfigFault that names the option. */
export function agentConfig(values: RunValues, socketsPassed: boolean): AgentConfig {
  const volumes = volumesOf(values, socketsPassed);
  const { granularity } = values;
  if ((granularity & (granularity - 1)) !== 0) {
    throw new ConfigFault('bad-value', `--granularity: "${granularity}" is not allowed, expected a power of two`);
  }
  if (values.hub.length === 0) {
    for (const [option, value, idle] of [
      ['mode', values.mode, 'async'],
      ['on-disconnect', values.onDisconnect, 'continue'],
    ] as const) {
      if (value !== idle) throw new ConfigFault('bad-value', `--${option}: "${value}" needs a --hub`);
    }
  }
  for (const { name: volume, upstream } of volumes)
    checked(`--upstream of volume ${volume}`, () => {
      const uri = parseDeviceUri(upstream);
      if (uri.kind === 'nbd' && uri.tls) throw new ConfigFault('tls-not-yet', `'${upstream}': TLS is not built yet`);
    });
  refuseSameUri(volumes);
  for (const uri of [...values.listen, ...volumes.flatMap(({ listen }) => listen)]) {
    checked('--listen', () => {
      const where = parseListenUri(uri);
      if (!isLocalAddress(where)) {
        throw new ConfigFault(
          'address-not-allowed',
          `${uri}: NBD has no TLS here yet, so only loopback and Unix sockets are served`,
        );
      }
    });
  }
  for (const url of values.hub) checked('--hub', () => dialAddress(parseHubUrl(url)));
  return {
    group: values.group,
    host: hostname(),
    volumes,
    listen: values.listen,
    hubs: values.hub,
    stateDirectory: values.state,
    mode: values.mode,
    allowShrink: values.allowShrink,
    onDisconnect: values.onDisconnect,
    onCongestion: values.onCongestion,
    durability: values.durability,
    hotExtents: values.hotExtents,
    granularityBytes: granularity,
    windowBytes: values.window,
    compress: values.compress,
    maxBytesPerSecond: values.maxRate,
    verifyEveryMs: values.verifyEvery,
    verifyBytesPerSecond: values.verifyRate,
    startSample: values.startSample,
    retries: values.retries,
    retryDelayMs: values.retryDelay,
    retryExponential: values.retryExponential,
    retryReadonly: values.retryReadonly,
    requestTimeoutMs: values.requestTimeout,
    connections: values.connections,
    multiConn: values.multiConn,
    trackDirty: values.trackDirty,
    idleFlushMs: values.idleFlush,
    replayBytes: values.replayBuffer,
    waitUpstream: values.waitUpstream,
    readCacheBytes: values.readCache,
  };
}

function volumesOf(values: RunValues, socketsPassed: boolean): readonly VolumeConfig[] {
  const { volumes, upstream, listen } = values;
  if (volumes === undefined) {
    if (upstream === undefined) throw new ConfigFault('missing-option', '--upstream is missing: the real disk');
    if (listen.length === 0 && !socketsPassed)
      throw new ConfigFault('missing-option', '--listen is missing: what the VM connects to');
    return [{ name: values.volume, upstream, listen: [] }];
  }
  if (upstream !== undefined) {
    throw new ConfigFault('conflicting-options', '--upstream and volumes exclude each other: give one of them');
  }
  const made = volumes.map((volume) => ({
    name: volume.name,
    upstream: volume.upstream,
    listen: volume.listen === undefined ? [] : Array.isArray(volume.listen) ? volume.listen : [volume.listen],
  }));
  const names = new Set<string>();
  for (const volume of made) {
    if (names.has(volume.name)) throw new ConfigFault('bad-value', `volumes: "${volume.name}" is there twice`);
    names.add(volume.name);
    if (volume.listen.length === 0 && listen.length === 0 && !socketsPassed) {
      throw new ConfigFault(
        'missing-option',
        `volumes: ${volume.name} has no listen, and there is no --listen for all`,
      );
    }
  }
  return made;
}

function checked(option: string, check: () => unknown): void {
  try {
    check();
  } catch (thrown) {
    if (!(thrown instanceof ConfigFault)) throw thrown;
    throw new ConfigFault(thrown.code, `${option}: ${thrown.message}`, { cause: thrown });
  }
}
