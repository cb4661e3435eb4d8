/** What the mirror tells the group, and what it counts. */
export interface MirrorEvents {
  /** A span may begin now: the link is up, there is room, and something is dirty or was lost. */
  spanWanted(): void;
  /** Room was made in the window. */
  roomMade(): void;
  /** The span's end is durable at the hub. */
  spanDurable(): void;
  /** The stream's state, or whether records flow to a hub, has changed. */
  stepChanged(): void;
  /** The hub has received or made durable more. */
  acknowledged(received: number, durable: number): void;
  /** Mirroring has stopped for good (promise FAIL-OPEN). */
  failed(fault: unknown): void;
}

export interface MirrorCounters {
  records: number;
  /** Bytes of the frames that were made. */
  streamedBytes: number;
  /** Bytes of frames handed to connections: more when records were sent again. */
  sentBytes: number;
  /** Bytes of writes that were only marked because the window was full. */
  pulledAheadBytes: number;
  copiedBytes: number;
}

export function mirrorCounters(): MirrorCounters {
  return { records: 0, streamedBytes: 0, sentBytes: 0, pulledAheadBytes: 0, copiedBytes: 0 };
}
