/**
 * What the hub itself has decided about a group: decisions.log, a chain of frames of type Decision with msgpack bodies.
 *
 * Always holds: a decision counts when `append` has resolved: it is synced then; decisions are never changed or removed.
 * A torn last one was never waited for and is cut; any other bad frame is corruption.
 *
 * Frames here use: number = 1, 2, …; previousChecksum = header checksum of the one before, CRC-32 of the group's name for
 * the first; line zero; agent time = the hub's wall clock, microseconds.
 */
import {
  asError,
  assert,
  CorruptionFault,
  crc32,
  type Fault,
  type FileSystem,
  InTurn,
  type OpenFile,
  parentOf,
  StorageFault,
} from '@rephub/platform';
import { decodeBody, encodeFrameWithBody, FrameHeader, FrameType, lineSchema, payloadOf } from '@rephub/protocol';
import { z } from 'zod';
import { scanFrames } from './journal/journal-scan.js';

const text = z.string().max(4096);
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const decisionSchema = z.discriminatedUnion('kind', [
  /** Who may write to the group. */
  z.object({ kind: z.literal('owner'), agentId: text, session: count, nonce: text }),
  /** This is the group's main line now; the one before it is kept aside with its base. */
  z.object({ kind: z.literal('line-begun'), line: lineSchema }),
  /** The main line's base or journal could not be believed: both were put aside, the group begins anew. */
  z.object({ kind: z.literal('set-aside'), line: lineSchema, directory: text, why: text }),
  /** A point got a name. */
  z.object({ kind: z.literal('checkpoint'), name: text, line: text, number: count, keep: z.boolean() }),
  z.object({ kind: z.literal('checkpoint-deleted'), name: text }),
  z.object({ kind: z.literal('branch-opened'), name: text, line: text, number: count, purpose: z.enum(['test']) }),
  /** The branch got its own line, with its first write. */
  z.object({ kind: z.literal('branch-line'), name: text, line: lineSchema }),
  z.object({ kind: z.literal('branch-dropped'), name: text }),
  /** A base image for the group's first line was put in place; before that line only. */
  z.object({ kind: z.literal('seeded'), volume: text, sizeBytes: count }),
  z.object({ kind: z.literal('forgotten'), line: text }),
]);
export type Decision = z.infer<typeof decisionSchema>;

export interface StoredDecision {
  readonly decision: Decision;
  readonly unixMs: number;
}

export class DecisionLog {
  readonly #file: OpenFile;
  readonly #path: string;
  readonly #header = new FrameHeader();
  #position: number;
  #number: number;
  #checksum: number;
  #dead: Fault | null = null;
  readonly #inTurn = new InTurn();

  private constructor(file: OpenFile, path: string, position: number, number: number, checksum: number) {
    this.#file = file;
    this.#path = path;
    this.#position = position;
    this.#number = number;
    this.#checksum = checksum;
  }

  /** Opens and checks the log, makes it when missing. Throws `decisions-damaged`, and what the disk says. */
  static async open(
    files: FileSystem,
    path: string,
    group: string,
  ): Promise<{ log: DecisionLog; decisions: StoredDecision[] }> {
    const file = await files.open(path, 'create');
    try {
      await files.syncDirectory(parentOf(path));
      const bodies: { readonly body: Buffer; readonly unixMs: number }[] = [];
      let number = 0;
      let checksum = crc32(Buffer.from(group, 'utf8'));
      const { sizeBytes } = await file.status();
      const { position, why, unread } = await scanFrames(file, 0, 0, sizeBytes, (header, raw) => {
        if (
          header.type !== FrameType.Decision ||
          header.number !== number + 1 ||
          header.previousChecksum !== checksum
        ) {
          throw new CorruptionFault('decisions-damaged', `decision ${number + 1} does not follow`);
        }
        bodies.push({ body: Buffer.concat(payloadOf(header, raw)), unixMs: header.agentTimeUs / 1000 });
        number = header.number;
        checksum = header.headerChecksum;
      });
      if (unread !== null) throw unread;
      if (why !== null) {
        if (await hasFrameAfter(file, position, sizeBytes)) {
          throw new CorruptionFault('decisions-damaged', `${path} is damaged at byte ${position}: ${why}`);
        }
        await file.truncate(position);
      }
      // What a killed process has left in the cache counts from now on.
      await file.sync();
      // Whole but not understood is not torn: another version wrote it.
      const decisions = bodies.map(({ body, unixMs }) => ({
        decision: decodeBody(decisionSchema, body, path),
        unixMs,
      }));
      return { log: new DecisionLog(file, path, position, number, checksum), decisions };
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** A sync has failed: it takes no more. */
  get hasFailed(): boolean {
    return this.#dead !== null;
  }

  /** Durable when it resolves. Decisions are stored in the order of the calls. */
  append(decision: Decision, unixMs: number): Promise<void> {
    return this.#inTurn.run(() => this.#append(decision, unixMs));
  }

  async close(): Promise<void> {
    await this.#inTurn.settled();
    await this.#file.close();
  }

  async #append(decision: Decision, unixMs: number): Promise<void> {
    if (this.#dead !== null) throw this.#dead;
    const header = this.#header;
    header.type = FrameType.Decision;
    header.number = this.#number + 1;
    header.previousChecksum = this.#checksum;
    header.agentTimeUs = Math.max(0, Math.floor(unixMs * 1000));
    const frame = encodeFrameWithBody(header, decision);
    await this.#file.write([frame], this.#position);
    try {
      await this.#file.sync();
    } catch (error) {
      this.#dead = new StorageFault('decisions-failed', `${this.#path}: ${asError(error).message}`, { cause: error });
      throw this.#dead;
    }
    assert(header.number === this.#number + 1, 'one decision at a time');
    this.#number = header.number;
    this.#checksum = header.headerChecksum;
    this.#position += frame.length;
  }
}

/** A whole frame behind the bad place: then what is bad had been waited for, since each decision is synced before the next. */
async function hasFrameAfter(file: OpenFile, position: number, sizeBytes: number): Promise<boolean> {
  const length = Math.min(sizeBytes - position, 16 * 1024 * 1024);
  const bytes = Buffer.alloc(length);
  const read = await file.read(bytes, position);
  const magic = Buffer.from('RPH1', 'latin1');
  for (let at = bytes.indexOf(magic, 1); at >= 0 && at < read; at = bytes.indexOf(magic, at + 1)) {
    const end = position + read;
    const from = position + at;
    const after = await scanFrames(file, 0, from, end, () => undefined);
    if (after.unread !== null) throw after.unread;
    if (after.position > from) return true;
  }
  return false;
}
