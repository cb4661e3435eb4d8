/** Opens what `--upstream` names: an NBD server or a plain file. */
import { type BlockDevice, connectNbd, exportSize, openFileDevice, parseDeviceUri } from '@rephub/nbd';
import { asError, ConfigFault, Fault, type Logger, type Platform, sleep } from '@rephub/platform';
import { DiskClaim } from './disk-claim.js';
import { type OpenUpstream } from './lane.js';
import { connectTimeoutMs, delayBefore, probeDelayMs, type RetryPolicy } from './retry-policy.js';
import { Upstream } from './upstream.js';
import { type UpstreamParts } from './upstream-parts.js';

/** A device smaller than a sector, or not a whole number of them, cannot be a disk. */
const SECTOR_BYTES = 512;
const ASK_TIMEOUT_MS = 5_000;

/** Throws a ConfigFault for a URI that is wrong; the function returned throws when upstream cannot be had. */
export function upstreamOpener(platform: Platform, uri: string, requestTimeoutMs: number, log: Logger): OpenUpstream {
  const parsed = parseDeviceUri(uri);
  if (parsed.kind === 'file') {
    const disk = new DiskClaim(platform.files, parsed.path, log);
    return () => openFileDevice(platform.files, parsed.path, { claim: () => disk.take() });
  }
  return (lost, timeoutMs) => connectNbd(platform, parsed, { timeoutMs, requestTimeoutMs, lost });
}

/** How large an NBD server's export is for somebody who connects now; null for a file, which is looked at where it is open. */
export function sizeAsker(platform: Platform, uri: string): (() => Promise<number>) | null {
  const parsed = parseDeviceUri(uri);
  return parsed.kind === 'file' ? null : () => exportSize(platform, parsed, ASK_TIMEOUT_MS);
}

/** Who hears how the opening gets on. */
export interface TriesTold {
  trying(): void;
  failed(reason: string): void;
}

/**
 * Opens an upstream that may not be there yet: within the retry policy, or, where `waits`, for ever. Only what time
 * can mend is tried again. Throws the Fault of the last try.
 */
export async function openPatiently(parts: UpstreamParts, waits: boolean, told?: TriesTold): Promise<Upstream> {
  const { clock, policy, log, name } = parts;
  const sinceMs = clock.monotonicMs();
  let said = '';
  // Who waits need not give somebody who says nothing much of its time.
  let timedOut = waits ? 0 : Infinity;
  for (let failures = 1; ; failures++) {
    told?.trying();
    try {
      return await Upstream.open(parts, connectTimeoutMs(timedOut));
    } catch (thrown) {
      const fault = asError(thrown);
      if (!(fault instanceof Fault) || !isMendable(fault, waits) || (!waits && failures > policy.retries)) throw fault;
      if (fault.message !== said)
        log.warn('upstream-awaited', { volume: name, code: fault.code, reason: fault.message });
      said = fault.message;
      told?.failed(fault.message);
      if (fault.code.endsWith('-timeout')) timedOut++;
      await sleep(clock, waits ? waitMs(policy, clock.monotonicMs() - sinceMs) : delayBefore(policy, failures));
    }
  }
}

/** What a file is before it is mounted, or made. */
const NOT_THERE_YET: ReadonlySet<string> = new Set(['upstream-missing', 'upstream-empty']);

/** Who waits may have looked at somebody else's socket so far. */
function isMendable(fault: Fault, waits: boolean): boolean {
  return fault.retryable || (waits && (fault.kind === 'protocol' || NOT_THERE_YET.has(fault.code)));
}

/** Somebody who waits for ever is told within a second that it is there. */
function waitMs(policy: RetryPolicy, awayMs: number): number {
  return Math.min(probeDelayMs(policy, awayMs), 1000);
}

/** Throws a ConfigFault when the device cannot be a protected disk. */
export function checkUpstream(device: BlockDevice, uri: string): void {
  const size = device.sizeBytes;
  if (size === 0) throw new ConfigFault('upstream-empty', `upstream ${uri} is empty`);
  if (size % SECTOR_BYTES !== 0) {
    throw new ConfigFault('upstream-odd-size', `upstream ${uri} has ${size} bytes, not a multiple of ${SECTOR_BYTES}`);
  }
}
