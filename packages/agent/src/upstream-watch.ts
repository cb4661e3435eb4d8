/**
 * Was a disk changed while no agent was between (a VM booted without it, a snapshot reverted)? Marks know nothing
 * of that. For `file:` upstreams the file itself tells: which file it is, and when it was changed last (docs/design.md).
 *
 *  - After an orderly stop, with marks left or without, both must be exactly what was noted then.
 *  - After a crash it must be the file that the agent had, changed no earlier than when that was last noted, and no later
 *    than the last sign of life, which is noted every ALIVE_MS while the guest is busy.
 *
 * Always holds: what an orderly stop has noted is gone before the next agent's guest can write.
 * Must not know: what is done about it.
 */
import { type Tracker } from '@rephub/bitmap';
import { parseDeviceUri } from '@rephub/nbd';
import { type Clock, ConfigFault, type FileSystem, type Logger, type Timer } from '@rephub/platform';
import { type VolumeConfig } from './config.js';
import { digest, NAME_DIGITS } from './digest.js';

/** What is known of an upstream file. Its device number is not: it may be another after a boot. */
export interface SeenFile {
  readonly volume: string;
  readonly path: string;
  readonly inode: string;
  readonly changedUnixMs: number;
}

type Notes = Readonly<Record<string, string>>;
type Listed = readonly Pick<VolumeConfig, 'name'>[];

/** How the files were left; there is no such note while an agent runs. */
const STOPPED_NOTE = 'files-stopped';
/** How they were when there last was a sign of life. */
export const OPEN_NOTE = 'files-open';
const ALIVE_NOTE = 'alive';
const IDENTITY_DIGITS = 8;
/** 23 bytes each at most; all notes together have less than 3 KiB. What is more is noted as one. */
const MOST_NOTED = 60;
const TICK_MS = 1_000;
const ALIVE_MS = 10_000;
/** For a sign of life that was late, and a file system whose clock ticks coarsely. */
const SLACK_MS = 30_000;
/** A power cut takes the last change times with it, and a clock may be set a little. */
const BACK_MS = 120_000;
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
export function doubtOf(seen: readonly SeenFile[], notes: Notes, volumes: Listed): string | null {
  const stopped = notes[STOPPED_NOTE];
  if (stopped !== undefined) {
    const isLeft = (found: Entry, noted: Entry): boolean =>
      found.identity === noted.identity && found.changedUnixMs === noted.changedUnixMs;
    if (holds(stopped, seen, volumes, isLeft)) return null;
    return `an upstream was changed, or is another, since the agent stopped: ${describe(seen)}`;
  }
  const open = notes[OPEN_NOTE];
  const isSame = (found: Entry, noted: Entry): boolean =>
    found.identity === noted.identity && found.changedUnixMs >= noted.changedUnixMs - BACK_MS;
  if (open !== undefined && !holds(open, seen, volumes, isSame)) {
    return `an upstream is another, or older, than the one that the agent had: ${describe(seen)}`;
  }
  const alive = Number(notes[ALIVE_NOTE] ?? Number.NaN);
  const late = seen.filter(({ changedUnixMs }) => changedUnixMs > alive + ALIVE_MS + SLACK_MS);
  if (late.length === 0) return null;
  return `an upstream was changed after the last sign of life of the agent at ${new Date(alive).toISOString()}: ${describe(late)}`;
}

/** What is noted of one volume. */
interface Entry {
  readonly name: string;
  readonly identity: string;
  readonly changedUnixMs: number;
}

/** Stands for the volumes that there is no room for. */
const OTHERS = 'others';

/** What is noted of the volumes' files, each by itself, so that one may be added. Times are no later than `atMost`. */
export function noteOf(seen: readonly SeenFile[], volumes: Listed, atMost = Infinity): string {
  const entries = entriesOf(seen, volumes);
  const [own, rest] = [entries.slice(0, MOST_NOTED), entries.slice(MOST_NOTED)];
  const noted = rest.length === 0 ? own : [...own, othersOf(rest)];
  return noted
    .map(({ name, identity, changedUnixMs }) => name + identity + Math.min(changedUnixMs, atMost).toString(36))
    .join(' ');
}

/** Is every volume that was noted, and is listed still, as it was? */
function holds(
  note: string,
  seen: readonly SeenFile[],
  volumes: Listed,
  isSo: (found: Entry, noted: Entry) => boolean,
): boolean {
  const entries = entriesOf(seen, volumes);
  const noted = note.split(' ').map(entryOf);
  const names = new Set(noted.map(({ name }) => name));
  const found = new Map(entries.map((entry) => [entry.name, entry]));
  if (names.has(OTHERS)) found.set(OTHERS, othersOf(entries.filter(({ name }) => !names.has(name))));
  // A volume that was not noted is new, and one that is not listed was taken away: neither has marks to be doubted.
  return noted.every((before) => {
    const now = found.get(before.name);
    return now === undefined || isSo(now, before);
  });
}

/** Of every volume, in an order of their own: one that is no file is noted as that. */
function entriesOf(seen: readonly SeenFile[], volumes: Listed): Entry[] {
  const files = new Map(seen.map((file) => [file.volume, file]));
  return volumes
    .map(({ name }) => {
      const file = files.get(name);
      return {
        name: digest(name, NAME_DIGITS),
        identity: digest(file === undefined ? `${name} is no file` : `${name} ${file.inode}`, IDENTITY_DIGITS),
        changedUnixMs: file?.changedUnixMs ?? 0,
      };
    })
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Which they are, and the last change of any. */
function othersOf(entries: readonly Entry[]): Entry {
  const all = entries.map(({ name, identity }) => name + identity).join(' ');
  const changedUnixMs = Math.max(0, ...entries.map((entry) => entry.changedUnixMs));
  return { name: OTHERS, identity: digest(all, IDENTITY_DIGITS), changedUnixMs };
}

function entryOf(noted: string): Entry {
  return {
    name: noted.slice(0, NAME_DIGITS),
    identity: noted.slice(NAME_DIGITS, NAME_DIGITS + IDENTITY_DIGITS),
    changedUnixMs: Number.parseInt(noted.slice(NAME_DIGITS + IDENTITY_DIGITS), 36),
  };
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
    this.#offsetMs = this.#wallOffset();
    await this.#noteAlive();
    if (this.#hasFiles) this.#tick();
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
    const { files, log, tracker, volumes } = this.#parts;
    try {
      const stopped = noteOf(await lookAtFiles(files, volumes), volumes);
      await tracker.saveIdentity({ notes: { ...withoutFiles(tracker.identity.notes), [STOPPED_NOTE]: stopped } });
    } catch (fault) {
      // The last sign of life is there still.
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
    const { clock, files, log, tracker, volumes, work } = this.#parts;
    this.#notedWork = work();
    this.#notedMs = clock.monotonicMs();
    const seen = await lookAtFiles(files, volumes);
    // A clock that was set back makes nothing older than it was.
    const now = clock.unixMs();
    const alive = { [ALIVE_NOTE]: String(now) };
    const open = { ...alive, [OPEN_NOTE]: noteOf(seen, volumes, now) };
    try {
      await tracker.saveIdentity({ notes: { ...withoutFiles(tracker.identity.notes), ...open } });
    } catch (fault) {
      if (!(fault instanceof ConfigFault) || fault.code !== 'identity-too-big') throw fault;
      log.warn('identity-not-saved', { fault: String(fault) });
      // What the others leave room for: a start must not fail for it, and what an orderly stop has noted must go.
      await tracker.saveIdentity({ notes: { ...withoutFiles(tracker.identity.notes), ...alive } });
    }
  }

  #wallOffset(): number {
    return this.#parts.clock.unixMs() - this.#parts.clock.monotonicMs();
  }
}

function withoutFiles(notes: Notes): Notes {
  return Object.fromEntries(Object.entries(notes).filter(([name]) => name !== STOPPED_NOTE && name !== OPEN_NOTE));
}
