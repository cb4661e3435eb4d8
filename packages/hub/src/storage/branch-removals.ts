/**
 * What is left of branches that are over: their directories go, then that is decided. What cannot be removed, or decided,
 * yet is tried again, less and less often, and by the next opening of the group.
 *
 * Always holds: a name is free again when its directory is gone, and not before; what is left of a branch keeps nothing from
 * being opened, closed or protected (ISOLATE): it holds room, and that is told.
 * Must not know: what a branch is made of.
 */
import { asError, type Clock, type FileSystem, InTurn, type Logger, type Timer } from '@rephub/platform';
import type { DecisionLog } from './decisions.js';
import type { LeftBehind } from './store-types.js';

const FIRST_MS = 1000;
const MOST_MS = 60_000;

export interface BranchRemovalsOptions {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly log: Logger;
  readonly decisions: DecisionLog;
  /** GROUP/branches */
  readonly directory: string;
}

export class BranchRemovals {
  readonly #options: BranchRemovalsOptions;
  /** Directories that are being removed; `why`: what the last try has met, null before it has ended. */
  readonly #left = new Map<string, { readonly bytes: number | null; why: string | null }>();
  /** Gone, and not decided yet. */
  readonly #undecided = new Set<string>();
  readonly #inTurn = new InTurn();
  #timer: Timer | null = null;
  #pauseMs = 0;
  #stopped = false;

  constructor(options: BranchRemovalsOptions) {
    this.#options = options;
  }

  /** What could not be removed so far. */
  get leftBehind(): LeftBehind[] {
    return [...this.#left].flatMap(([name, { bytes, why }]) => (why === null ? [] : [{ name, bytes, why }]));
  }

  /** Something of a branch of this name is still there. */
  has(name: string): boolean {
    return this.#left.has(name);
  }

  /** Another branch of this name has been decided: what became of the one before counts no more. */
  isOpenAgain(name: string): void {
    this.#undecided.delete(name);
  }

  /** The branch is over. Throws what keeps it from being removed, or from being decided, for now. `bytes`: how much room it holds. */
  async remove(name: string, bytes: number | null): Promise<void> {
    this.#left.set(name, { bytes, why: null });
    try {
      await this.#inTurn.run(() => this.#remove(name));
    } catch (error) {
      this.#options.log.warn('branch-not-removed', { branch: name, message: asError(error).message });
      this.#again();
      throw error;
    }
  }

  /** At the start: all that another run has left goes, before room is asked for. Never throws. */
  async adopt(decidedOpen: ReadonlySet<string>): Promise<void> {
    const { files, directory, log } = this.#options;
    const names = new Set(decidedOpen);
    try {
      if ((await files.status(directory)) !== null) for (const name of await files.list(directory)) names.add(name);
    } catch (error) {
      log.warn('branch-not-removed', { message: asError(error).message });
    }
    for (const name of names) {
      const wasOpen = decidedOpen.has(name);
      await this.remove(name, null).then(
        () => log.info('branch-removed', { branch: name, why: 'the hub was started again', wasOpen }),
        () => undefined,
      );
    }
  }

  /** Nothing more is tried; what is left goes with the next opening. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#inTurn.settled();
  }

  async #remove(name: string): Promise<void> {
    const { files, directory } = this.#options;
    const left = this.#left.get(name);
    if (left === undefined) return;
    try {
      await files.removeTree(`${directory}/${name}`);
    } catch (error) {
      left.why = asError(error).message;
      throw error;
    }
    this.#left.delete(name);
    this.#undecided.add(name);
    await this.#decide(name);
  }

  async #decide(name: string): Promise<void> {
    const { clock, decisions } = this.#options;
    if (!this.#undecided.has(name)) return;
    await decisions.append({ kind: 'branch-dropped', name }, clock.unixMs());
    this.#undecided.delete(name);
  }

  #again(): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#pauseMs = Math.min(MOST_MS, Math.max(FIRST_MS, 2 * this.#pauseMs));
    this.#timer = this.#options.clock.after(this.#pauseMs, () => {
      this.#timer = null;
      // Never throws.
      void this.#inTurn.run(() => this.#tryAll());
    });
  }

  async #tryAll(): Promise<void> {
    let failed = false;
    for (const [name, { why }] of [...this.#left]) {
      if (this.#stopped) return;
      if (why === null) continue;
      try {
        await this.#remove(name);
        this.#options.log.info('branch-removed', { branch: name, why: 'it was tried again' });
      } catch {
        failed = true;
      }
    }
    for (const name of [...this.#undecided]) {
      if (this.#stopped) return;
      await this.#decide(name).catch(() => (failed = true));
    }
    if (failed) this.#again();
    else this.#pauseMs = 0;
  }
}
