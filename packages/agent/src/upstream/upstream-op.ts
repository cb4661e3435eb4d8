/** The pooled state of one request on its way upstream. */
import { type BlockDevice, BlockRequest, Command, CommandFlag } from '@rephub/nbd';
import { type Lane, type LaneUser } from './lane.js';

export interface OpSteps {
  opAnswered(op: UpstreamOp): void;
  opTaken(op: UpstreamOp): void;
}

const NO_SLICES: Buffer[] = [];

export class UpstreamOp implements LaneUser {
  outer: BlockRequest | null = null;
  /** What the lane gets. */
  readonly inner: BlockRequest;
  lane: Lane | null = null;
  /** Rises with each: the order of submission. */
  order = 0;
  /** When the guest submitted it; 0: it is not a guest's, or not to be measured. */
  startedMs = 0;
  /** It waited for a connection, or to be repeated: how long it took says nothing of the disk. */
  hasWaited = false;
  /** Its entry in the replay log; 0: none. */
  entry = 0;
  /** Failures so far. */
  failures = 0;
  /** An error that upstream answers passes at once. */
  once = false;
  /** FUA by a flush of its own after the write. */
  fuaByFlush = false;
  /** What it does now is to flush: a guest's flush, or that of a FUA write whose write was answered. */
  flushing = false;
  /** Its FUA write was answered with an error: from now on it is a write and a flush. */
  syncFailed = false;
  /** Of its flush: the answers to writes before it was sent, and the log's next entry then. */
  coveredStamp = 0;
  coveredEnd = 0;
  /** When its flush was sent; NaN: there was nothing to send. */
  flushSentMs = NaN;
  /** It is given up when it still waits for a connection then. */
  deadlineMs = Infinity;
  /** It is repeated then. */
  dueMs = 0;
  /** Which set of connections it failed on. */
  generation = 0;
  readonly #steps: OpSteps;

  constructor(steps: OpSteps) {
    this.#steps = steps;
    this.inner = new BlockRequest(this);
  }

  get command(): Command {
    return this.outer?.command ?? Command.Flush;
  }

  get isWrite(): boolean {
    const { command } = this;
    return command === Command.Write || command === Command.WriteZeroes || command === Command.Trim;
  }

  get wantsFua(): boolean {
    return this.outer !== null && (this.outer.flags & CommandFlag.Fua) !== 0;
  }

  /** The inner request becomes what the outer one is, with these flags. */
  fill(flags: number): void {
    const { inner, outer } = this;
    if (outer === null) return;
    inner.command = outer.command;
    inner.flags = flags;
    inner.offset = outer.offset;
    inner.length = outer.length;
    if (outer.command === Command.Read && outer.data.length > 0) outer.data = [];
    inner.data = outer.data;
    inner.contexts = outer.contexts;
    if (outer.command === Command.BlockStatus) inner.extents = [];
  }

  fillFlush(): void {
    const { inner } = this;
    inner.command = Command.Flush;
    inner.flags = 0;
    inner.offset = 0;
    inner.length = 0;
    inner.data = NO_SLICES;
  }

  completed(): void {
    this.#steps.opAnswered(this);
  }

  taken(): void {
    this.#steps.opTaken(this);
  }

  recycle(): void {
    this.outer = null;
    this.inner.data = NO_SLICES;
    this.lane = null;
    this.entry = 0;
    this.startedMs = 0;
    this.hasWaited = false;
    this.failures = 0;
    this.once = false;
    this.fuaByFlush = false;
    this.flushing = false;
    this.syncFailed = false;
    this.deadlineMs = Infinity;
  }
}

/** The same device, entered by another door. */
export function faceOf(device: BlockDevice, submit: (request: BlockRequest) => void): BlockDevice {
  const { abilities, limits } = device;
  return {
    get sizeBytes() {
      return device.sizeBytes;
    },
    ...{ abilities, limits, submit, close: () => Promise.resolve() },
  };
}
