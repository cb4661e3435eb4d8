/**
 * A file open on the simulated disk. Behaves as the real one: positions, short reads at the end, a failed
 * sync that is final for this open file.
 */
import { StorageFault } from '../errors.js';
import type { FileStatus, OpenFile } from '../files.js';
import { type Change, PAGE_BYTES } from './content.js';
import { type FaultRule, injectedFault, type SimOperation } from './fault-rules.js';
import { joined } from './page-memory.js';
import type { FileNode } from './tree.js';

/** What an open file needs of the disk it is on. */
export interface OpenFileDisk {
  /** Whether the disk can fill up. */
  readonly isLimited: boolean;
  /** Room that is left. */
  freeBytes(): number;
  /** A number that grows with every change, so that a sync knows what came before it. */
  nextOrder(): number;
  /** A change that readers see at once. */
  change(node: FileNode, change: Change): void;
  statusOf(node: FileNode): FileStatus;
  /** The file's clean pages leave the page cache. */
  evict(path: string): void;
  /**
   * One operation. `start` takes effect at once, `finish` when its time has passed. With `strikesItself` it is told of an
   * injected fault instead of it being thrown.
   */
  perform<T>(
    operation: SimOperation,
    path: string,
    changes: boolean,
    start: (struck: FaultRule | null) => T,
    finish?: (started: T) => void,
    strikesItself?: boolean,
  ): Promise<T>;
}

export class SimOpenFile implements OpenFile {
  readonly #disk: OpenFileDisk;
  readonly #node: FileNode;
  readonly #path: string;
  readonly #writable: boolean;
  #failuresSeen: number;
  #syncFailure: StorageFault | null = null;
  #closed = false;

  constructor(disk: OpenFileDisk, node: FileNode, path: string, writable: boolean) {
    this.#disk = disk;
    this.#node = node;
    this.#path = path;
    this.#writable = writable;
    this.#failuresSeen = node.syncFailures;
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    this.#assertOpen();
    const read = (rule: FaultRule | null): number => {
      const fault = rule?.fault ?? null;
      if (fault !== null && fault !== 'short-read' && fault !== 'flip-bit')
        throw injectedFault(fault, 'read', this.#path);
      const part = fault === 'short-read' ? buffer.subarray(0, buffer.length >> 1) : buffer;
      const count = this.#node.seen.read(part, position);
      const middle = count >> 1;
      if (fault === 'flip-bit' && count > 0) buffer[middle] = (buffer[middle] ?? 0) ^ 0x10;
      return count;
    };
    return await this.#disk.perform('read', this.#path, false, read, undefined, true);
  }

  async write(chunks: readonly Uint8Array[], position: number): Promise<void> {
    this.#assertWritable();
    if (this.#syncFailure !== null) throw this.#syncFailure;
    const write = (rule: FaultRule | null): void => {
      const bytes = joined(chunks);
      if (rule !== null) {
        const written = rule.writtenBytes?.(bytes.length) ?? bytes.length >> 1;
        this.#change({ kind: 'write', position, bytes: bytes.subarray(0, this.#fittingBytes(position, written)) });
        throw injectedFault(rule.fault, 'write', this.#path);
      }
      const fitting = this.#fittingBytes(position, bytes.length);
      this.#change({ kind: 'write', position, bytes: bytes.subarray(0, fitting) });
      if (fitting < bytes.length) throw diskFull('write', this.#path);
    };
    await this.#disk.perform('write', this.#path, true, write, undefined, true);
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    if (this.#syncFailure !== null) throw this.#syncFailure;
    const order = this.#disk.nextOrder();
    await this.#disk.perform(
      'sync',
      this.#path,
      true,
      (rule) => rule,
      (rule) => {
        if (rule !== null) {
          this.#node.failSync(order);
          if (rule.evicts === true) this.#disk.evict(this.#path);
        }
        if (this.#node.syncFailures !== this.#failuresSeen) {
          this.#syncFailure = new StorageFault(
            'sync-failed',
            `cannot sync ${this.#path}: what was written since the last good sync may be lost`,
          );
          throw this.#syncFailure;
        }
        this.#node.syncUpTo(order);
      },
      true,
    );
  }

  async status(): Promise<FileStatus> {
    this.#assertOpen();
    return await this.#disk.perform('status', this.#path, false, () => this.#disk.statusOf(this.#node));
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#assertWritable();
    await this.#disk.perform('truncate', this.#path, true, () => this.#change({ kind: 'truncate', sizeBytes }));
  }

  async allocate(position: number, lengthBytes: number): Promise<void> {
    this.#assertWritable();
    await this.#disk.perform('allocate', this.#path, true, () => {
      if (lengthBytes === 0) return;
      if (this.#disk.isLimited && this.#node.seen.missingBytes(position, lengthBytes) > this.#disk.freeBytes()) {
        throw diskFull('allocate space in', this.#path);
      }
      this.#change({ kind: 'allocate', position, lengthBytes });
    });
  }

  async punch(position: number, lengthBytes: number): Promise<void> {
    this.#assertWritable();
    await this.#disk.perform('punch', this.#path, true, () => this.#change({ kind: 'punch', position, lengthBytes }));
  }

  async nextData(position: number): Promise<{ readonly position: number; readonly lengthBytes: number } | null> {
    this.#assertOpen();
    return await this.#disk.perform('next-data', this.#path, false, () => this.#node.seen.nextData(position));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#disk.perform('close', this.#path, false, () => undefined);
  }

  #change(change: Change): void {
    this.#disk.change(this.#node, change);
  }

  /** How many bytes of a write at `position` still find room. */
  #fittingBytes(position: number, lengthBytes: number): number {
    if (!this.#disk.isLimited) return lengthBytes;
    const missing = this.#node.seen.missingBytes(position, lengthBytes);
    const free = this.#disk.freeBytes();
    if (missing <= free) return lengthBytes;
    let fitting = 0;
    for (let left = free; fitting < lengthBytes;) {
      const at = position + fitting;
      const part = Math.min(PAGE_BYTES - (at % PAGE_BYTES), lengthBytes - fitting);
      left -= this.#node.seen.missingBytes(at, part);
      if (left < 0) break;
      fitting += part;
    }
    return fitting;
  }

  #assertOpen(): void {
    if (this.#closed) throw new StorageFault('closed', `${this.#path} has been closed`);
  }

  #assertWritable(): void {
    this.#assertOpen();
    if (!this.#writable) throw new StorageFault('closed', `${this.#path} is open for reading only`);
  }
}

function diskFull(action: string, path: string): StorageFault {
  return new StorageFault('disk-full', `cannot ${action} ${path}: no space left on the device`, { retryable: true });
}
