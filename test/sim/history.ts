/**
 * What the guest has asked for and been told, per block: the judge of everything that a disk or a replica shows.
 *
 * Always holds: an operation's submission and end are moments on one rising counter, so "A was acknowledged before B
 * was submitted" is a comparison. A failed operation, or one whose fate is unknown, may be seen and hides nothing.
 * Must not know: how disks, agent or hub work.
 */
import { type BlockContents, UNREADABLE } from './block-content.js';

export interface Operation {
  readonly id: number;
  /** `found`: what a disk was found to hold after its unflushed writes were lost; counts as acknowledged then. */
  readonly kind: 'write' | 'zero' | 'trim' | 'found';
  readonly client: number;
  readonly volume: number;
  readonly block: number;
  readonly blocks: number;
  readonly fua: boolean;
  readonly submitted: number;
  readonly submittedMs: number;
  /** Infinity while it is open, or its fate unknown. */
  ended: number;
  endedMs: number;
  ok: boolean;
  /** It was acknowledged, and the disk has given it up since: readers may see it until power goes. */
  givenUp?: boolean;
}

interface Entry {
  readonly operation: Operation;
  readonly content: number;
}

export interface Finding {
  readonly volume: number;
  readonly block: number;
  readonly shows: number;
  readonly lacks: Operation;
}

export class History {
  readonly operations: Operation[] = [];
  readonly #contents: BlockContents;
  readonly #blocks: Entry[][][];
  /** Per volume: what was acknowledged before this moment is on stable storage. */
  readonly #flushedBefore: number[];
  #moment = 0;

  constructor(contents: BlockContents, blocksOf: readonly number[]) {
    this.#contents = contents;
    this.#blocks = blocksOf.map((count) => new Array<Entry[]>(count));
    this.#flushedBefore = blocksOf.map(() => 0);
  }

  get moment(): number {
    return this.#moment;
  }

  tick(): number {
    return ++this.#moment;
  }

  submit(what: Pick<Operation, 'kind' | 'client' | 'volume' | 'block' | 'blocks' | 'fua'>, nowMs: number): Operation {
    const operation: Operation = {
      ...what,
      id: this.operations.length + 1,
      submitted: this.tick(),
      submittedMs: nowMs,
      ended: Infinity,
      endedMs: Infinity,
      ok: false,
    };
    this.operations.push(operation);
    const content = what.kind === 'write' ? operation.id : 0;
    for (let block = what.block; block < what.block + what.blocks; block += 1) {
      this.#entries(what.volume, block).push({ operation, content });
    }
    return operation;
  }

  end(operation: Operation, ok: boolean, nowMs: number): void {
    operation.ended = this.tick();
    operation.endedMs = nowMs;
    operation.ok = ok && operation.givenUp !== true;
  }

  /** A flush that was submitted at that moment has succeeded. */
  flushed(volume: number, submitted: number): void {
    this.#flushedBefore[volume] = Math.max(this.#flushedBefore[volume] ?? 0, submitted);
  }

  /** A read submitted at that moment, and ended now, may show this. */
  allows(volume: number, block: number, content: number, readSubmitted: number): boolean {
    const entries = this.#known(volume, block);
    let hidden = 0;
    for (const { operation } of entries) {
      if (hides(operation) && operation.ended < readSubmitted && operation.submitted > hidden)
        hidden = operation.submitted;
    }
    return this.#shows(entries, content, hidden);
  }

  /** After a power cut a disk may hold this: the last flushed content or anything newer, torn or garbled where it was not flushed. */
  survives(volume: number, block: number, content: number, mayBeGarbled: boolean): boolean {
    const entries = this.#known(volume, block);
    const hidden = this.#stableFrom(volume, entries);
    if (this.#shows(entries, content, hidden)) return true;
    if (!mayBeGarbled || !this.#contents.isMixed(content)) return false;
    const unflushed = entries.some(({ operation }) => operation.ended >= hidden && !this.#isStable(volume, operation));
    for (let sector = 0; sector < 8; sector += 1) {
      const value = this.#contents.sectorOf(content, sector);
      if (value < 0 ? !unflushed : !this.#showsSector(entries, value, sector, hidden)) return false;
    }
    return true;
  }

  /**
   * After a crash the disk was found to hold this, `isStable` or as readers see it: whatever was open has ended. Only where
   * there was any doubt. `moment` is that of the crash, the same for all that it has changed: none of it came before the other.
   */
  found(volume: number, block: number, content: number, isStable: boolean, moment: number, nowMs: number): void {
    const entries = this.#blocks[volume]?.[block];
    if (entries === undefined) return;
    const hidden = this.#stableFrom(volume, entries);
    const candidates = entries.filter(({ operation }) => operation.ended >= hidden);
    if (candidates.length === 1 && candidates[0]?.content === content && hidden > 0) return;
    const operation: Operation = {
      id: 0,
      kind: 'found',
      client: 0,
      volume,
      block,
      blocks: 1,
      fua: isStable,
      submitted: moment,
      submittedMs: nowMs,
      ended: moment,
      endedMs: nowMs,
      ok: true,
    };
    entries.push({ operation, content });
  }

  /** Operations whose fate is unknown can take effect no more. */
  closeOpen(isOver: (operation: Operation) => boolean, nowMs: number): void {
    for (const operation of this.operations) {
      if (operation.ended === Infinity && isOver(operation)) this.end(operation, false, nowMs);
    }
  }

  /**
   * Acknowledged or about to be, never flushed, and given up by the disk: such an operation may be seen, and hides nothing
   * any more.
   */
  giveUp(volume: number, isLost: (operation: Operation) => boolean): void {
    for (const operation of this.operations) {
      const isOpen = operation.ended === Infinity;
      if (operation.volume !== volume || !(operation.ok || isOpen) || this.#isStable(volume, operation)) continue;
      if (!isLost(operation)) continue;
      operation.ok = false;
      operation.givenUp = true;
    }
  }

  /** Some such operation was acknowledged and not covered by a flush of the guest's; or, if asked for, is on its way. */
  hasUnflushed(volume: number, orOpen: boolean, isMeant: (operation: Operation) => boolean = () => true): boolean {
    return this.operations.some(
      (operation) =>
        operation.volume === volume &&
        (operation.ok || (orOpen && operation.ended === Infinity)) &&
        !this.#isStable(volume, operation) &&
        isMeant(operation),
    );
  }

  /** This content is that of a write which the disk has given up. */
  wasGivenUp(volume: number, block: number, content: number): boolean {
    return this.#known(volume, block).some((entry) => entry.content === content && entry.operation.givenUp === true);
  }

  /**
   * Looks for a write that a replica lacks although it shows one that was submitted after that one was acknowledged (ORD).
   * `oldestMissingMs`: when the oldest acknowledged write was answered that the replica does not contain (RPO).
   */
  judge(replica: readonly Int32Array[]): { readonly violation: Finding | null; readonly oldestMissingMs: number } {
    let newest = 0;
    this.#each(replica, (entries, content) => {
      const first = entries.find((entry) => entry.content === content);
      // What was only ever found, torn, may have been seen before: by the copier, after an earlier crash.
      if (first === undefined || first.operation.kind === 'found') return;
      if (first.operation.submitted > newest) newest = first.operation.submitted;
    });
    let violation: Finding | null = null;
    let oldestMissingMs = Infinity;
    this.#each(replica, (entries, content, volume, block) => {
      // The copier may have read it before the disk lost it, and nobody can know (docs/design.md, REPLAY).
      if (this.wasGivenUp(volume, block, content)) return;
      const shownEnd = this.#latestEnd(entries, content);
      for (const { operation } of entries) {
        if (!hides(operation) || operation.submitted <= shownEnd) continue;
        if (operation.kind !== 'found' && operation.endedMs < oldestMissingMs) oldestMissingMs = operation.endedMs;
        if (operation.ended < newest) violation ??= { volume, block, shows: content, lacks: operation };
      }
    });
    return { violation, oldestMissingMs };
  }

  /** What was asked of a block, newest last, for people. */
  tell(volume: number, block: number): string {
    return this.#known(volume, block)
      .slice(-8)
      .map(({ operation: { id, kind, submitted, ended, ok }, content }) => {
        const what = kind === 'found' ? `found ${this.#contents.describe(content)}` : `${kind} ${id}`;
        return `${what} ${submitted}–${ended === Infinity ? '?' : ended}${ok ? '' : ' not ok'}`;
      })
      .join(', ');
  }

  /** The newest operation on a block; null when nothing was ever asked of it. */
  last(volume: number, block: number): Operation | null {
    return this.#blocks[volume]?.[block]?.at(-1)?.operation ?? null;
  }

  #each(
    replica: readonly Int32Array[],
    look: (entries: Entry[], content: number, volume: number, block: number) => void,
  ): void {
    for (const [volume, blocks] of this.#blocks.entries()) {
      const shown = replica[volume];
      if (shown === undefined) continue;
      for (let block = 0; block < shown.length; block += 1) {
        const entries = blocks[block];
        const content = shown[block] ?? 0;
        if (entries !== undefined && content !== UNREADABLE) look(entries, content, volume, block);
      }
    }
  }

  #latestEnd(entries: readonly Entry[], content: number): number {
    if (!this.#contents.isMixed(content) || entries.some((entry) => entry.content === content)) {
      let end = 0;
      for (const entry of entries)
        if (entry.content === content && entry.operation.ended > end) end = entry.operation.ended;
      return end;
    }
    let end = Infinity;
    for (let sector = 0; sector < 8; sector += 1) {
      const value = this.#contents.sectorOf(content, sector);
      let sectorEnd = 0;
      for (const entry of entries) {
        if (this.#contents.sectorOf(entry.content, sector) === value)
          sectorEnd = Math.max(sectorEnd, entry.operation.ended);
      }
      end = Math.min(end, sectorEnd);
    }
    return end;
  }

  #shows(entries: readonly Entry[], content: number, hidden: number): boolean {
    for (const entry of entries) if (entry.content === content && entry.operation.ended >= hidden) return true;
    if (!this.#contents.isMixed(content)) return false;
    for (let sector = 0; sector < 8; sector += 1) {
      if (!this.#showsSector(entries, this.#contents.sectorOf(content, sector), sector, hidden)) return false;
    }
    return true;
  }

  #showsSector(entries: readonly Entry[], value: number, sector: number, hidden: number): boolean {
    return entries.some(
      (entry) => entry.operation.ended >= hidden && this.#contents.sectorOf(entry.content, sector) === value,
    );
  }

  #isStable(volume: number, { ok, fua, ended }: Operation): boolean {
    return ok && (fua || ended < (this.#flushedBefore[volume] ?? 0));
  }

  #stableFrom(volume: number, entries: readonly Entry[]): number {
    let from = 0;
    for (const { operation } of entries) {
      if (hides(operation) && this.#isStable(volume, operation) && operation.submitted > from)
        from = operation.submitted;
    }
    return from;
  }

  #entries(volume: number, block: number): Entry[] {
    const blocks = this.#blocks[volume];
    if (blocks === undefined) throw new Error(`there is no volume ${volume}`);
    return (blocks[block] ??= [{ operation: EMPTY_DISK, content: 0 }]);
  }

  #known(volume: number, block: number): readonly Entry[] {
    return this.#blocks[volume]?.[block] ?? UNTOUCHED;
  }
}

const EMPTY_DISK: Operation = {
  id: 0,
  kind: 'found',
  client: 0,
  volume: 0,
  block: 0,
  blocks: 0,
  fua: true,
  submitted: 0,
  submittedMs: 0,
  ended: 0,
  endedMs: 0,
  ok: true,
};
const UNTOUCHED: readonly Entry[] = [{ operation: EMPTY_DISK, content: 0 }];

/** Once it is acknowledged, what was there before must not be seen any more. A trim promises nothing. */
function hides({ ok, kind }: Operation): boolean {
  return ok && kind !== 'trim';
}
