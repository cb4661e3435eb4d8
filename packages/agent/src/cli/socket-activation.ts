/** Sockets that systemd opened for us (sd_listen_fds): LISTEN_PID says whether they are ours, LISTEN_FDS how many. */
import { ConfigFault } from '@rephub/platform';

/** The first descriptor that is passed. */
const FIRST_DESCRIPTOR = 3;
const MOST_DESCRIPTORS = 64;

/** The descriptors passed to this process; none when there are none, or they are another's. Throws a ConfigFault for nonsense. */
export function passedSockets(environment: Readonly<Record<string, string | undefined>>, pid: number): number[] {
  const { LISTEN_PID: forPid, LISTEN_FDS: count } = environment;
  if (count === undefined || (forPid !== undefined && forPid !== String(pid))) return [];
  const sockets = Number(count);
  if (!Number.isInteger(sockets) || sockets < 0 || sockets > MOST_DESCRIPTORS) {
    throw new ConfigFault(
      'bad-value',
      `LISTEN_FDS: "${count}" is not allowed, expected a number up to ${MOST_DESCRIPTORS}`,
    );
  }
  return Array.from({ length: sockets }, (_, at) => FIRST_DESCRIPTOR + at);
}
