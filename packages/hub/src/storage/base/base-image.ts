/**
 * One volume's base image: asynchronous and by range, so that it may live elsewhere than in a local file.
 *
 * What an implementation promises: after `sync` all that was completed before is on stable storage; bytes never
 * written read as zeroes, those beyond the end too; a failed `sync` is final.
 */
export interface BaseImage {
  readonly sizeBytes: number;
  /** Fills the whole buffer. `once`: nobody will ask for these bytes again soon, so they need not be kept. */
  read(buffer: Uint8Array, offset: number, once?: boolean): Promise<void>;
  write(chunks: readonly Uint8Array[], offset: number): Promise<void>;
  /** The range reads as zeroes and, where that can be had, takes no space. */
  zero(offset: number, lengthBytes: number): Promise<void>;
  sync(): Promise<void>;
  /** The first run of data at or after `offset`; null when only a hole follows. */
  nextData(offset: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null>;
  /** A larger size is durable when this resolves. */
  resize(sizeBytes: number): Promise<void>;
  /** Which file it is, and when it was changed last. */
  seen(): Promise<{ readonly identity: string; readonly changedUnixMs: number }>;
  close(): Promise<void>;
}
