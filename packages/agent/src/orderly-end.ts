/**
 * The orderly end of a group: no new clients, requests in flight answered, upstream flushed, the hub given time to
 * acknowledge, state saved clean. Each step has its time, so that all of it is over within 10 s.
 *
 * Always holds: the state is saved as clean only when the last flush has succeeded and mirroring has not failed, and with a
 * last number that no process of before has passed: one that never met a hub knows no better than what they had reserved.
 */
import { type Tracker } from '@rephub/bitmap';
import { type NbdServer } from '@rephub/nbd';
import { asError, type Clock, type Logger, sleep } from '@rephub/platform';
import { type Flusher } from './guest/flusher.js';
import { type HubLink } from './link/hub-link.js';
import { type Mirror } from './mirror/mirror.js';
import { type Standing } from './link/standing.js';
import { type UpstreamWatch } from './upstream-watch.js';
import { type Upstream } from './upstream/upstream.js';

const REQUESTS_MS = 2_500;
const READERS_MS = 1_000;
const FLUSH_MS = 2_500;
const DURABLE_MS = 2_000;
const CLOSE_MS = 1_000;
const POLL_MS = 10;

export interface EndingParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly servers: readonly NbdServer[];
  readonly upstreams: readonly Upstream[];
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  readonly flusher: Flusher;
  readonly standing: Pick<Standing, 'lastNumberBefore'>;
  readonly link: HubLink | null;
  readonly watch: UpstreamWatch;
  /** Who reads upstream in the background. */
  readonly readers: readonly { stop(): Promise<void> }[];
  /** Guests that wait for the hub are answered. */
  readonly waitForHubNoLonger: () => void;
}

/** Returns false when the state could only be saved unclean. */
export async function endInOrder(parts: EndingParts): Promise<boolean> {
  const { clock, flusher, link, log, mirror, servers, standing, tracker, upstreams, watch } = parts;
  const within = async (work: Promise<unknown>, mostMs: number): Promise<void> => {
    await Promise.race([work, sleep(clock, mostMs)]);
  };
  flusher.stop();
  if (!mirror.linked) parts.waitForHubNoLonger();
  const closed = Promise.all(servers.map((server) => server.close(REQUESTS_MS)));
  await within(closed, REQUESTS_MS);
  parts.waitForHubNoLonger();
  // An upstream that is away now will not answer what waits for it.
  for (const upstream of upstreams) if (!upstream.status.up) upstream.giveUp();
  await within(closed, READERS_MS);
  await within(Promise.all(parts.readers.map((reader) => reader.stop())), READERS_MS);
  let clean = true;
  try {
    await Promise.race([
      flusher.flushAll(),
      sleep(clock, FLUSH_MS).then(() => {
        throw new Error('upstream did not answer the last flush in time');
      }),
    ]);
  } catch (fault) {
    log.error('last-flush-failed', { fault: asError(fault).message });
    clean = false;
  }
  clean &&= upstreams.every((upstream) => upstream.status.up);
  const deadline = clock.monotonicMs() + DURABLE_MS;
  while (mirror.linked && mirror.window.count > 0 && clock.monotonicMs() < deadline) await sleep(clock, POLL_MS);
  await link?.stop('repagent is stopping');
  mirror.setAside();
  watch.stop();
  if (clean) await watch.noteStopped();
  if (clean && mirror.state !== 'stopped')
    await tracker.closeClean(Math.max(mirror.lastNumber, standing.lastNumberBefore));
  else await tracker.close();
  await within(Promise.all(upstreams.map((upstream) => upstream.close())), CLOSE_MS);
  return clean;
}
