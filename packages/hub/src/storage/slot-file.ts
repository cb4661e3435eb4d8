/**
 * A small file with two slots, A and B, written in turn: after a crash at any moment the last body that was synced, or
 * the one being written, is there whole.
 *
 * A slot, little endian:
 *
 *   offset bytes field
 *        0     8 magic "RPHSLOT1"
 *        8     4 version, 1
 *       12     4 bytes of the body
 *       16     8 sequence: the valid slot with the higher one counts
 *       24     4 CRC-32 of bytes 0 to 23 and the body
 *       28     4 zero
 *       32     … body
 *
 * Must not know: what the bodies say.
 */
import { assert, crc32, type FileSystem, type OpenFile, replaceSmallFile, StorageFault } from '@rephub/platform';

const MAGIC = Buffer.from('RPHSLOT1', 'latin1');
const HEAD_BYTES = 32;
const VERSION = 1;

export class SlotFile {
  readonly #file: OpenFile;
  readonly #path: string;
  readonly #slotBytes: number;
  #sequence: number;
  #writing = false;
  #dead = false;

  private constructor(file: OpenFile, path: string, slotBytes: number, sequence: number) {
    this.#file = file;
    this.#path = path;
    this.#slotBytes = slotBytes;
    this.#sequence = sequence;
  }

  /** Makes the file with its first body, or replaces it: after a crash it is there whole, or not at all. */
  static async make(files: FileSystem, path: string, slotBytes: number, body: Buffer): Promise<SlotFile> {
    const content = Buffer.alloc(2 * slotBytes);
    encodeHead(body, 1, slotBytes).copy(content, slotBytes);
    body.copy(content, slotBytes + HEAD_BYTES);
    await replaceSmallFile(files, path, content);
    return new SlotFile(await files.open(path, 'write'), path, slotBytes, 1);
  }

  /**
   * Opens the file; null when there is none. `body` is the newest valid one, null when no slot is valid; it is on stable
   * storage, whatever a killed process has left unsynced. `unread`: the disk did not give one of the slots, which may be
   * the newest: the other one is good for what may be older than it is, should it be whole.
   */
  static async open(
    files: FileSystem,
    path: string,
    slotBytes: number,
  ): Promise<{ readonly file: SlotFile; readonly body: Buffer | null; readonly unread: StorageFault | null } | null> {
    if ((await files.status(path)) === null) return null;
    const file = await files.open(path, 'write');
    try {
      await file.sync();
      let sequence = 0;
      let body: Buffer | null = null;
      let unread: StorageFault | null = null;
      for (const slot of [0, 1]) {
        const found = await readSlot(file, slot * slotBytes, slotBytes);
        if (found instanceof StorageFault) unread = found;
        else if (found !== null && found.sequence > sequence) ({ sequence, body } = found);
      }
      return { file: new SlotFile(file, path, slotBytes, sequence), body, unread };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The body is durable when this resolves. One at a time. After a failed sync nothing is written any more. */
  async write(body: Buffer): Promise<void> {
    assert(!this.#writing, 'one write of a slot at a time');
    if (this.#dead)
      throw new StorageFault('sync-failed', `${this.#path} is not written any more: an earlier sync failed`);
    this.#writing = true;
    try {
      const sequence = this.#sequence + 1;
      await this.#file.write([encodeHead(body, sequence, this.#slotBytes), body], (sequence % 2) * this.#slotBytes);
      await this.#sync();
      this.#sequence = sequence;
    } finally {
      this.#writing = false;
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #sync(): Promise<void> {
    try {
      await this.#file.sync();
    } catch (error) {
      this.#dead = true;
      throw error;
    }
  }
}

function encodeHead(body: Buffer, sequence: number, slotBytes: number): Buffer {
  assert(HEAD_BYTES + body.length <= slotBytes, `a body of ${body.length} bytes fits into a slot of ${slotBytes}`);
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head, 0);
  head.writeUInt32LE(VERSION, 8);
  head.writeUInt32LE(body.length, 12);
  head.writeBigUInt64LE(BigInt(sequence), 16);
  head.writeUInt32LE(crc32(body, crc32(head.subarray(0, 24))), 24);
  return head;
}

async function readSlot(
  file: OpenFile,
  position: number,
  slotBytes: number,
): Promise<{ sequence: number; body: Buffer } | StorageFault | null> {
  const slot = Buffer.alloc(slotBytes);
  let read: number;
  try {
    read = await file.read(slot, position);
  } catch (error) {
    if (!(error instanceof StorageFault)) throw error;
    return error;
  }
  if (read < HEAD_BYTES || !slot.subarray(0, 8).equals(MAGIC) || slot.readUInt32LE(8) !== VERSION) return null;
  const bodyBytes = slot.readUInt32LE(12);
  if (HEAD_BYTES + bodyBytes > read) return null;
  const body = slot.subarray(HEAD_BYTES, HEAD_BYTES + bodyBytes);
  if (crc32(body, crc32(slot.subarray(0, 24))) !== slot.readUInt32LE(24)) return null;
  return { sequence: Number(slot.readBigUInt64LE(16)), body: Buffer.from(body) };
}
