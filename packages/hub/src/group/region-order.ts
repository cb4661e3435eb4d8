/** An operator's order for a region of a volume, checked, and fetched from the agent in steps. */
import { ConfigFault } from '@rephub/platform';
import type { RegionAnswer, RegionRequest } from '../session/remote-reads.js';
import type { VolumeState } from '../storage/index.js';
import { unknownVolume } from '../unknown-names.js';

/** A region of a volume, by name. */
export interface RegionOrder {
  readonly volume: string;
  readonly offset: number;
  readonly length: number;
  /** For each step. */
  readonly timeoutMs: number;
}

/** One request to the agent is at most so long: it reads that much under its range lock. */
const STEP_BYTES = 1024 * 1024;
const MAX_BYTES = 32 * 1024 * 1024;

/**
 * All bytes of the region; each step is of its own moment. `agent` gives the session to ask, and throws when there is none.
 * Throws a ConfigFault `unknown-volume`, `bad-range`, and what RemoteReads rejects with.
 */
export async function readVolumeRegion(
  order: RegionOrder,
  volumes: readonly VolumeState[],
  agent: () => { readRegion(request: RegionRequest): Promise<RegionAnswer> },
): Promise<RegionAnswer> {
  const volume = volumes.find((known) => known.name === order.volume);
  if (volume === undefined) {
    throw unknownVolume(
      order.volume,
      volumes.map(({ name }) => name),
    );
  }
  const end = order.offset + order.length;
  if (order.length < 1 || order.length > MAX_BYTES || end > volume.sizeBytes) {
    throw new ConfigFault(
      'bad-range',
      `${order.length} bytes at ${order.offset}: 1 to ${MAX_BYTES} bytes within the volume's ${volume.sizeBytes} can be read`,
    );
  }
  const parts: Buffer[] = [];
  let seq = 0;
  for (let offset = order.offset; offset < end; offset += STEP_BYTES) {
    const length = Math.min(STEP_BYTES, end - offset);
    const answer = await agent().readRegion({ volume: volume.index, offset, length, timeoutMs: order.timeoutMs });
    parts.push(answer.bytes);
    seq = answer.seq;
  }
  return { bytes: Buffer.concat(parts), seq };
}
