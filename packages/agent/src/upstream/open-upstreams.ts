/** Opens the upstreams of all volumes of a group, as its configuration says. */
import { holdBytes, type Logger, type Platform, releaseBytes } from '@rephub/platform';
import { type AgentConfig } from '../config.js';
import { type GuestLatency } from '../guest/guest-latency.js';
import { type UpstreamsAwaited } from '../starting.js';
import { type OpenUpstream } from './lane.js';
import { checkUpstream, openPatiently, sizeAsker, upstreamOpener } from './open-upstream.js';
import { refuseSameFile } from './shared-upstream.js';
import { type Upstream } from './upstream.js';
import { type UpstreamHooks } from './upstream-parts.js';

/** What of a volume its upstream must reach. */
export interface UpstreamListener {
  flushForRoom(): void;
  contentUnknown(offset: number, length: number): void;
  playedAgain(offset: number, length: number): void;
  doubtChanged(): void;
  contentDropped(offset: number, length: number): void;
  writeLost(offset: number, length: number): void;
  unflushedLost(isDropped: boolean): void;
}

/** Who opens them; its volumes come later. */
export interface UpstreamOwner {
  /** In the configuration's order. */
  volumes: readonly UpstreamListener[];
  /** An upstream has become larger than it was. */
  growth: { offered(position: number, sizeBytes: number): void } | null;
  readonly latency: GuestLatency;
}

/** Throws the Fault of the first upstream that cannot be had. */
export async function openUpstreams(
  platform: Platform,
  config: AgentConfig,
  log: Logger,
  owner: UpstreamOwner,
  awaited: UpstreamsAwaited | null,
): Promise<Upstream[]> {
  const upstreams: Upstream[] = [];
  let isStarting = true;
  try {
    for (const [position, { name, upstream: uri }] of config.volumes.entries()) {
      const open = upstreamOpener(platform, uri, config.requestTimeoutMs, log);
      const parts = {
        name,
        clock: platform.clock,
        log,
        policy: { retries: config.retries, delayMs: config.retryDelayMs, exponential: config.retryExponential },
        options: {
          retryReadonly: config.retryReadonly,
          connections: uri.startsWith('file:') ? 1 : config.connections,
          multiConn: config.multiConn,
          trackDirty: config.trackDirty,
          idleFlushMs: config.idleFlushMs,
          replayBytes: config.replayBytes,
        },
        memory: { hold: holdBytes, release: releaseBytes },
        latency: owner.latency.addVolume(name),
        open: async (...asked: Parameters<OpenUpstream>) => {
          // Files that were not there before may be one and the same now: not in use by somebody else, then.
          if (isStarting) await refuseSameFile(platform.files, config.volumes);
          return await open(...asked);
        },
        askSize: sizeAsker(platform, uri),
        hooks: hooksOf(owner, position),
      };
      const upstream = await openPatiently(parts, config.waitUpstream, {
        trying: () => awaited?.trying(position),
        failed: (reason) => awaited?.failed(position, reason),
      });
      upstreams.push(upstream);
      checkUpstream(upstream, uri);
      awaited?.opened(position, upstream.sizeBytes);
    }
    isStarting = false;
    await refuseSameFile(platform.files, config.volumes);
    return upstreams;
  } catch (fault) {
    for (const upstream of upstreams) await upstream.close();
    throw fault;
  }
}

function hooksOf(owner: UpstreamOwner, position: number): UpstreamHooks {
  const volume = (): UpstreamListener | undefined => owner.volumes[position];
  return {
    grown: (sizeBytes) => owner.growth?.offered(position, sizeBytes),
    wantsFlush: () => volume()?.flushForRoom(),
    contentUnknown: (offset, length) => volume()?.contentUnknown(offset, length),
    playedAgain: (offset, length) => volume()?.playedAgain(offset, length),
    writeLost: (offset, length) => volume()?.writeLost(offset, length),
    doubtChanged: () => volume()?.doubtChanged(),
    contentDropped: (offset, length) => volume()?.contentDropped(offset, length),
    unflushedLost: (isDropped) => volume()?.unflushedLost(isDropped),
  };
}
