/** Between the packer and the link: how hard records press against it, and whether the hub at its end can read them. */
import { isLocalAddress } from '@rephub/platform';
import { dialAddress, type FrameLink, parseHubUrl, type Verdict, type Welcome } from '@rephub/protocol';
import { type Mirror } from './mirror.js';
import { type Pressure } from '../compression/packer.js';

/** So much in the connection, beyond what the kernel took: records wait for the link. */
const WAITING_BYTES = 64 * 1024;
/** A window that is so full holds records back, and may be smaller than what the kernel takes. */
const FULL_SHARE = 3 / 4;

export function pressureOf(link: FrameLink, { counters, packer, window }: Mirror): Pressure {
  return {
    get waits() {
      return link.queuedBytes > WAITING_BYTES || window.bytes > window.limitBytes * FULL_SHARE;
    },
    get leftBytes() {
      return counters.sentBytes - link.queuedBytes;
    },
    get madeBytes() {
      const { compressedRawBytes, compressedBytes } = packer.counters;
      return counters.streamedBytes + compressedRawBytes - compressedBytes;
    },
  };
}

/** The hub is on this host, as far as its address tells. */
export function isLocalHub(url: string): boolean {
  return isLocalAddress(dialAddress(parseHubUrl(url)));
}

/**
 * The window cannot be sent again as it is, for this hub lacks a codec that the last one had: all of it is marked, and the
 * next handshake finds no window. Returns why; null where it can.
 */
export function giveUpForeign(mirror: Mirror, verdict: Verdict, welcome: Welcome): string | null {
  if (verdict.kind !== 'resume') return null;
  const codec = mirror.packer.lacks(welcome.features, welcome.group?.lastNumber ?? 0);
  if (codec === null) return null;
  mirror.giveUpWindow();
  return `the window holds records in ${codec}, which this hub does not take`;
}
