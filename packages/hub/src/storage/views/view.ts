/**
 * A view: all volumes of a group at one number, read-only, and the same bytes for as long as it is open (PIT).
 *
 * Always holds: while it is open its pin keeps everything that it reads; when the pin is taken away (a hard limit) every
 * read, those under way included, fails with EIO rather than mixing two points.
 * Must not know: what else is open.
 */
import {
  type Abilities,
  ALLOCATION_CONTEXT,
  type BlockDevice,
  type BlockRequest,
  Command,
  CommandFlag,
  DEFAULT_LIMITS,
  NbdError,
} from '@rephub/nbd';
import { asError, ConfigFault, type Logger } from '@rephub/platform';
import type { VolumeDescription } from '@rephub/protocol';
import type { PinnedVolume } from '../layers/timeline.js';
import type { View } from '../store-types.js';
import { type PointContent, RunCollector } from './point-content.js';
import { type AssemblyOwner, ReadAssembly } from './read-assembly.js';

const READ_ONLY: Abilities = {
  readOnly: true,
  flush: true,
  fua: false,
  trim: false,
  writeZeroes: false,
  fastZero: false,
  cache: true,
  multiConn: true,
  contexts: [ALLOCATION_CONTEXT],
};

export interface OpenedPoint {
  readonly line: string;
  readonly number: number;
  readonly timeUs: number;
  readonly volumes: readonly PinnedVolume[];
  readonly content: PointContent;
  readonly log: Logger;
  /** Lets go of the pin. Called once. */
  readonly release: () => void;
}

export class PointView implements View {
  readonly #point: OpenedPoint;
  #expired: string | null = null;
  #closing: Promise<void> | null = null;
  #inFlight = 0;
  #whenIdle: (() => void)[] = [];
  #listeners: ((why: string) => void)[] = [];
  /** One line in the log for a view, not one for every read. */
  #toldFailure = false;
  readonly #owner: AssemblyOwner = {
    verdict: () => (this.#expired === null ? NbdError.Ok : NbdError.Eio),
    readFailed: (error) => {
      this.readFailed(error);
    },
    done: () => {
      this.ended();
    },
  };

  constructor(point: OpenedPoint) {
    this.#point = point;
  }

  get number(): number {
    return this.#point.number;
  }

  get agentTimeUs(): number {
    return this.#point.timeUs;
  }

  get line(): string {
    return this.#point.line;
  }

  get volumes(): readonly VolumeDescription[] {
    return this.#point.volumes.map(({ volume, sizeBytes }) => ({ index: volume.index, name: volume.name, sizeBytes }));
  }

  get content(): PointContent {
    return this.#point.content;
  }

  get expired(): string | null {
    return this.#expired;
  }

  device(volumeName: string): BlockDevice {
    return new ViewDevice(this, this.pinned(volumeName));
  }

  /** The volume of this name at this point; throws `unknown-volume`. */
  pinned(volumeName: string): PinnedVolume {
    const found = this.#point.volumes.find(({ volume }) => volume.name === volumeName);
    if (found !== undefined) return found;
    const names = this.#point.volumes.map(({ volume }) => volume.name).join(', ');
    throw new ConfigFault(
      'unknown-volume',
      `there is no volume ${volumeName} at number ${this.number}; there are: ${names}`,
    );
  }

  onExpired(listener: (why: string) => void): void {
    if (this.#expired === null) this.#listeners.push(listener);
    else listener(this.#expired);
  }

  /** The pin has been taken away. */
  expire(why: string): void {
    if (this.#expired !== null) return;
    this.#expired = why;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener(why);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Begins the answer to a read. */
  assembly(request: BlockRequest): ReadAssembly {
    this.#inFlight += 1;
    return new ReadAssembly(request, this.#owner);
  }

  /** Answers a block status request from what `collect` finds. */
  status(request: BlockRequest, collect: (into: RunCollector) => Promise<void>): void {
    if (request.contexts.some((context) => context !== ALLOCATION_CONTEXT)) {
      request.complete(NbdError.Einval);
      return;
    }
    this.#inFlight += 1;
    const into = new RunCollector((request.flags & CommandFlag.RequestOne) === 0 ? undefined : 1);
    collect(into)
      .then(
        () => {
          request.extents = request.contexts.map(() => ({ runs: into.runs }));
          request.complete(this.#expired === null ? NbdError.Ok : NbdError.Eio);
        },
        (error: unknown) => {
          this.readFailed(error);
          request.complete(NbdError.Eio);
        },
      )
      .finally(() => {
        this.ended();
      });
  }

  readFailed(error: unknown): void {
    if (this.#toldFailure) return;
    this.#toldFailure = true;
    this.#point.log.error('point-read-failed', { number: this.number, message: asError(error).message });
  }

  /** A request has gone back. */
  ended(): void {
    this.#inFlight -= 1;
    if (this.#inFlight > 0) return;
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const wake of waiting) wake();
  }

  /** Resolves when nothing is in flight. */
  async idle(): Promise<void> {
    while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }

  async #close(): Promise<void> {
    await this.idle();
    this.#expired ??= 'closed';
    this.#listeners = [];
    this.#point.release();
  }
}

class ViewDevice implements BlockDevice {
  readonly #view: PointView;
  readonly #pinned: PinnedVolume;
  readonly abilities = READ_ONLY;
  readonly limits = DEFAULT_LIMITS;

  constructor(view: PointView, pinned: PinnedVolume) {
    this.#view = view;
    this.#pinned = pinned;
  }

  get sizeBytes(): number {
    return this.#pinned.sizeBytes;
  }

  submit(request: BlockRequest): void {
    const view = this.#view;
    if (view.expired !== null) {
      request.complete(NbdError.Eio);
      return;
    }
    const { offset, length } = request;
    const { volume } = this.#pinned;
    switch (request.command) {
      case Command.Read: {
        const assembly = view.assembly(request);
        view.content.read(assembly, volume, offset, offset + length);
        assembly.end();
        return;
      }
      case Command.BlockStatus:
        view.status(request, (into) => view.content.allocation(volume, offset, offset + length, into));
        return;
      case Command.Flush:
      case Command.Cache:
        request.complete(NbdError.Ok);
        return;
      default:
        request.complete(NbdError.Eperm);
    }
  }

  close(): Promise<void> {
    return this.#view.idle();
  }
}
