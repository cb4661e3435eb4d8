/** The options of `rephub serve`, and what they must not be together. */
import {
  address,
  badValue,
  duration,
  flag,
  formatDuration,
  logOptions,
  optional,
  path,
  repeated,
  required,
  size,
  type ValuesOf,
  withDefault,
} from '@rephub/command';
import { ConfigFault } from '@rephub/platform';
import { refuseOpenDoors } from '../hub/open-doors.js';
import { hubListen, nbdListen } from './option-types.js';

export const SERVE_OPTIONS = {
  data: required(path(), { placeholder: 'DIR', help: 'where journals, replicas and the identity live; locked' }),
  listen: repeated(hubListen(), {
    placeholder: 'URL',
    help: 'where agents connect to: tcp://HOST:PORT or unix:///PATH',
    defaults: ['tcp://127.0.0.1:9010'],
  }),
  nbd: repeated(nbdListen(), {
    placeholder: 'URI',
    help: 'where replicas and tests are exported: nbd://HOST:PORT or nbd+unix:///?socket=PATH',
    defaults: ['nbd://127.0.0.1:10809'],
  }),
  http: withDefault(address(), '127.0.0.1:9011', {
    placeholder: 'ADDR',
    help: 'health, metrics and the API: HOST:PORT or unix:PATH',
  }),
  retention: withDefault(duration(), '24h', {
    placeholder: 'TIME',
    help: 'how long records stay in the journal before they go into the base images; 0: as soon as possible',
  }),
  'journal-max': optional(size({ min: 64 * 1024 * 1024 }), {
    placeholder: 'SIZE',
    help: 'journal of a group, at most; history gives way from its old end',
  }),
  reserve: optional(size(), {
    placeholder: 'SIZE',
    help: 'room on the disk that is kept for protection: tests end, and history and large resyncs give way, before it is used (default: 5 % of the disk or 1 GiB, whichever is less)',
  }),
  'index-cache': withDefault(size({ min: 1024 * 1024 }), '64MiB', {
    placeholder: 'SIZE',
    help: 'memory for the indexes of all groups; history of those that use most gives way when they need more',
  }),
  heartbeat: withDefault(duration({ min: 50, max: 60_000 }), '1s', {
    placeholder: 'TIME',
    help: 'how often both sides say that they live',
  }),
  'heartbeat-timeout': withDefault(duration({ min: 200, max: 600_000 }), '5s', {
    placeholder: 'TIME',
    help: 'an agent silent for so long is gone, and its group unknown; more than --heartbeat',
  }),
  insecure: flag({ help: 'listen where other machines can connect, without TLS' }),
  ...logOptions,
};

export type ServeValues = ValuesOf<typeof SERVE_OPTIONS>;

/** Throws ConfigFault where one option forbids what another says. */
export function checkServe(values: ServeValues): void {
  if (values.listen.length === 0) {
    throw new ConfigFault('missing-option', 'listen: the list is empty; no agent could connect');
  }
  refuseOpenDoors('--listen', values.listen, values.insecure);
  refuseOpenDoors('--nbd', values.nbd, values.insecure);
  refuseOpenDoors('--http', [values.http], values.insecure);
  // No agent takes it otherwise (Welcome).
  if (values.heartbeatTimeout <= values.heartbeat) {
    const given = formatDuration(values.heartbeatTimeout);
    throw badValue('--heartbeat-timeout', given, `more than --heartbeat (${formatDuration(values.heartbeat)})`);
  }
}
