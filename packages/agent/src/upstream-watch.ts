/**
 * Was a disk changed while no agent was between (a VM booted without it, a snapshot reverted)? Marks know nothing
 * of that. For `file:` upstreams the file itself tells: which file it is, and when it was changed last (docs/design.md).
 *
 *  - After an orderly stop that must be exactly what was noted then.
 *  - After a crash the last change must not be later than the last sign of life of the agent that was there,
 *    which is noted every ALIVE_MS while the guest is busy.
 *
 * Must not know: what is done about it.
 */
import { type Tracker } from '@rephub/bitmap';
import { parseDeviceUri } from '@rephub/nbd';
import { type Clock, type FileSystem, type Logger, type Timer } from '@rephub/platform';
import { createHash } from 'node:crypto';
import { type VolumeConfig } from './config.js';

/** What is known of an upstream file. Its device number is not: it may be another after a boot. */
export interface SeenFile {
  readonly volume: string;
  readonly path: string;
  readonly inode: string;
  readonly changedUnixMs: number;
}

type Notes = Readonly<Record<string, string>>;

const STOPPED_NOTE = 'files-stopped';
const ALIVE_NOTE = 'alive';
const NAME_DIGITS = 6;
/** 15 bytes each; all notes together have 2 KiB. */
const MOST_NOTED = 64;
const TICK_MS = 1_000;
const ALIVE_MS = 10_000;
/** For a sign of life that was late, and a file system whose clock ticks coarsely. */
const SLACK_MS = 30_000;
/** The wall clock has jumped when it gained or lost this much on the monotonic one. */
const JUMP_MS = 2_000;

/** The regular files among the volumes' upstreams, as they are now. */
export async function lookAtFiles(files: FileSystem, volumes: readonly VolumeConfig[]): Promise<SeenFile[]> {
  const seen: SeenFile[] = [];
  for (const { name, upstream } of volumes) {
    const uri = parseDeviceUri(upstream);
    if (uri.kind !== 'file') continue;
    const status = await files.status(uri.path);
    // Of a block device the times say nothing.
    if (status?.kind !== 'file') continue;
    const inode = status.identity.slice(status.identity.indexOf(':') + 1);
    seen.push({ volume: name, path: uri.path, inode, changedUnixMs: Math.floor(status.changedUnixMs) });
  }
  return seen;
}

/** Why marks cannot be believed: what was changed without them; null when nothing speaks against them. */
export function doubtOf(
  seen: readonly SeenFile[],
  notes: Notes,
  clean: boolean,
  volumes: readonly Pick<VolumeConfig, 'name'>[],
): string | null {
  if (clean) {
    const note = notes[STOPPED_NOTE];
    if (note === undefined) return null;
    const found = new Map(seen.map((file) => [nameOf(file), digestOf(file)]));
    const listed = new Set(volumes.map(({ name }) => nameOf({ volume: name })));
    // A volume that was not noted is new, and one that is not listed was taken away: neither has marks to be doubted.
    const holds = (entry: string): boolean => {
      const name = entry.slice(0, NAME_DIGITS);
      return !listed.has(name) || found.get(name) === entry.slice(NAME_DIGITS);
    };
    if (note.split(' ').every(holds)) return null;
    return `an upstream was changed, or is another, since the agent stopped: ${describe(seen)}`;
  }
  const alive = Number(notes[ALIVE_NOTE] ?? Number.NaN);
  const late = seen.filter(({ changedUnixMs }) => changedUnixMs > alive + ALIVE_MS + SLACK_MS);
  if (late.length === 0) return null;
  return `an upstream was changed after the last sign of life of the agent at ${new Date(alive).toISOString()}: ${describe(late)}`;
}

/** What is noted of the files, each by itself, so that one may be added; of more than fit into a note, the first. */
export function noteOf(seen: readonly SeenFile[]): string {
  return seen
    .slice(0, MOST_NOTED)
    .map((file) => nameOf(file) + digestOf(file))
    .join(' ');
}

function nameOf({ volume }: Pick<SeenFile, 'volume'>): string {
  return createHash('sha256').update(volume).digest('hex').slice(0, NAME_DIGITS);
}

function digestOf({ volume, inode, changedUnixMs }: SeenFile): string {
  return createHash('sha256').update(`${volume} ${inode} ${changedUnixMs}`).digest('hex').slice(0, 8);
}

function describe(seen: readonly SeenFile[]): string {
  return seen
    .map(({ volume, path, changedUnixMs }) => `${volume} ${path} ${new Date(changedUnixMs).toISOString()}`)
    .join(', ');
}

export interface UpstreamWatchParts {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly log: Logger;
  readonly tracker: Tracker;
  readonly volumes: readonly VolumeConfig[];
  /** Rises with the guest's work. */
  readonly work: () => number;
}

export class UpstreamWatch {
  readonly #parts: UpstreamWatchParts;
  readonly #hasFiles: boolean;
  #timer: Timer | null = null;
  #notedWork = -1;
  #notedMs = -Infinity;
  #offsetMs = 0;

  constructor(parts: UpstreamWatchParts) {
    this.#parts = parts;
    this.#hasFiles = parts.volumes.some(({ upstream }) => parseDeviceUri(upstream).kind === 'file');
  }

  /** The first sign of life is durable when it resolves: before the guest can write. */
  async start(): Promise<void> {
    if (!this.#hasFiles) return;
    this.#offsetMs = this.#wallOffset();
    await this.#noteAlive();
    this.#tick();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** A file was made larger, and is used so: a sign of life that is younger than that. Never rejects. */
  async noteGrown(): Promise<void> {
    if (!this.#hasFiles) return;
    await this.#noteAlive().catch((fault: unknown) => {
      this.#parts.log.warn('identity-not-saved', { fault: String(fault) });
    });
  }

  /** Nothing will be written any more: notes how the files are left. For the orderly end; never rejects. */
  async noteStopped(): Promise<void> {
    if (!this.#hasFiles) return;
    const { files, log, tracker, volumes } = this.#parts;
    try {
      const seen = await lookAtFiles(files, volumes);
      await tracker.saveIdentity({ notes: { ...tracker.identity.notes, [STOPPED_NOTE]: noteOf(seen) } });
    } catch (fault) {
      // What was noted at an earlier stop is there still, and makes the next start doubt.
      log.warn('identity-not-saved', { fault: String(fault) });
    }
  }

  #tick(): void {
    this.#timer = this.#parts.clock.after(TICK_MS, () => {
      const { clock, log, work } = this.#parts;
      const jumped = Math.abs(this.#wallOffset() - this.#offsetMs) > JUMP_MS;
      const isDue = clock.monotonicMs() - this.#notedMs >= ALIVE_MS && work() !== this.#notedWork;
      if (jumped || isDue) {
        this.#offsetMs = this.#wallOffset();
        this.#noteAlive().catch((fault: unknown) => {
          log.warn('identity-not-saved', { fault: String(fault) });
        });
      }
      this.#tick();
    });
  }

  async #noteAlive(): Promise<void> {
    const { clock, tracker, work } = this.#parts;
    this.#notedWork = work();
    this.#notedMs = clock.monotonicMs();
    await tracker.saveIdentity({ notes: { ...tracker.identity.notes, [ALIVE_NOTE]: String(clock.unixMs()) } });
  }

  #wallOffset(): number {
    return this.#parts.clock.unixMs() - this.#parts.clock.monotonicMs();
  }
}
