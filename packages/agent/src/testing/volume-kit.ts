/** One protected volume without network and hub: a real tracker on a simulated disk, a scripted upstream, and the frames that would be sent. */
import { Tracker } from '@rephub/bitmap';
import { type Abilities } from '@rephub/nbd';
import { type Fault, LinkFault, silentLogger, uuidBytes } from '@rephub/platform';
import { simPlatform, type SimPlatform } from '@rephub/platform/sim';
import { chainStart, FrameReader, type FrameType, payloadOf } from '@rephub/protocol';
import { BackgroundReads } from '../resync/background-reads.js';
import { Comparer } from '../resync/comparer.js';
import { Packer } from '../compression/packer.js';
import { Copier, type CopyProgress } from '../resync/copier.js';
import { Courtesy } from '../resync/courtesy.js';
import { FlushProof } from '../flushes/flush-proof.js';
import { Flusher } from '../guest/flusher.js';
import { GuestLatency } from '../guest/guest-latency.js';
import { GuestVolume, type GuestVolumeParts } from '../guest/guest-volume.js';
import { HashClient } from '../resync/hash-client.js';
import { Marks } from '../mirror/marks.js';
import { Mirror } from '../mirror/mirror.js';
import { Pace } from '../resync/pace.js';
import { type RetryPolicy } from '../upstream/retry-policy.js';
import { Upstream } from '../upstream/upstream.js';
import { type UpstreamOptions } from '../upstream/upstream-parts.js';
import { ScriptedDevice } from './scripted-device.js';

export const DISK_BYTES = 16 * 1024 * 1024;
const GRANULARITY = 64 * 1024;

export interface SeenRecord {
  readonly type: FrameType;
  readonly flags: number;
  readonly number: number;
  readonly offset: number;
  readonly length: number;
  readonly data: Buffer;
}

export interface VolumeKit {
  readonly platform: SimPlatform;
  readonly upstream: ScriptedDevice;
  /** That one, and `others`. */
  readonly devices: readonly ScriptedDevice[];
  readonly volume: GuestVolume;
  /** In the same order. */
  readonly volumes: readonly GuestVolume[];
  readonly latency: GuestLatency;
  readonly courtesy: Courtesy;
  readonly reads: BackgroundReads;
  readonly tracker: Tracker;
  readonly mirror: Mirror;
  /** Copies are compared first once this is started and the client has a hub to ask. */
  readonly comparer: Comparer;
  readonly hashes: HashClient;
  readonly records: SeenRecord[];
  readonly ended: CopyProgress[];
  readonly flusher: Flusher;
  readonly unreadable: [number, number][];
  readonly failures: unknown[];
  /** Lets a promise settle by moving the virtual time. */
  readonly run: <T>(work: Promise<T>) => Promise<T>;
  /** The upstream connection is lost; the next one, to the same disk, is had at once. */
  readonly lose: () => void;
}

/** The mirror is in step: every write becomes a record at once. */
export async function volumeKit(
  options: {
    readonly abilities?: Partial<Abilities>;
    readonly windowBytes?: number;
    readonly policy?: RetryPolicy;
    readonly upstream?: Partial<UpstreamOptions>;
    readonly doubted?: () => void;
    /** What guests of all volumes wait for. */
    readonly waitsFor?: Partial<Pick<GuestVolumeParts, 'acknowledgement' | 'freeze' | 'gate'>>;
    /** The disk, where an ordinary one will not do. */
    readonly disk?: ScriptedDevice;
    /** More volumes, in step as the first one. */
    readonly others?: readonly ScriptedDevice[];
  } = {},
): Promise<VolumeKit> {
  const platform = simPlatform(1);
  const { clock } = platform;
  const failures: unknown[] = [];
  const records: SeenRecord[] = [];
  const ended: CopyProgress[] = [];
  const unreadable: [number, number][] = [];
  const upstream = options.disk ?? new ScriptedDevice(DISK_BYTES, options.abilities);
  const disks = [upstream, ...(options.others ?? [])];
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let over = false;
    work
      .finally(() => {
        over = true;
      })
      .catch(() => undefined);
    await clock.runUntil(() => over, 60_000);
    return await work;
  };
  const lost: { tell: (fault: Fault) => void } = { tell: () => undefined };
  const proof = new FlushProof();
  const parts: { flusher?: Flusher; copier?: Copier } = {};
  const tracker = await run(
    Tracker.open(platform, {
      directory: '/state',
      group: 'vm1',
      granularityBytes: GRANULARITY,
      volumes: disks.map(({ sizeBytes }, index) => ({ index, name: `disk${index}`, sizeBytes })),
      hooks: { wantsFlush: () => parts.flusher?.want(), failed: () => undefined },
    }),
  );
  const line = uuidBytes(tracker.identity.line.id);
  const mirror: Mirror = new Mirror({
    clock,
    tracker,
    log: silentLogger,
    packer: new Packer('off', clock, []),
    windowBytes: options.windowBytes ?? 8 * 1024 * 1024,
    hasHub: true,
    line,
    exposureKnown: true,
    events: {
      spanWanted: () => {
        mirror.beginSpan('test', null);
        parts.copier?.start('test');
      },
      roomMade: () => undefined,
      spanDurable: () => undefined,
      stepChanged: () => undefined,
      acknowledged: () => undefined,
      failed: (fault) => failures.push(fault),
    },
  });
  const marks = new Marks(tracker, clock, silentLogger, (fault) => {
    mirror.fail(fault);
  });
  const volumes: GuestVolume[] = [];
  const latency = new GuestLatency();
  for (const [index, disk] of disks.entries()) {
    const name = `disk${index}`;
    const connected = await Upstream.open({
      name,
      clock,
      log: silentLogger,
      policy: options.policy ?? { retries: 0, delayMs: 1000, exponential: true },
      options: {
        retryReadonly: 'no',
        connections: 1,
        multiConn: 'auto',
        trackDirty: 'fast',
        idleFlushMs: Infinity,
        replayBytes: 8 * 1024 * 1024,
        ...options.upstream,
      },
      memory: { hold: () => undefined, release: () => undefined },
      latency: latency.addVolume(name),
      open: (tell) => {
        if (index === 0) lost.tell = tell;
        return Promise.resolve(disk);
      },
      askSize: null,
      hooks: {
        wantsFlush: () => volumes[index]?.flushForRoom(),
        contentUnknown: (offset, length) => volumes[index]?.contentUnknown(offset, length),
        playedAgain: (offset, length) => volumes[index]?.playedAgain(offset, length),
        writeLost: (offset, length) => volumes[index]?.writeLost(offset, length),
        doubtChanged: () => volumes[index]?.doubtChanged(),
        contentDropped: (offset, length) => volumes[index]?.contentDropped(offset, length),
        unflushedLost: (isDropped) => volumes[index]?.unflushedLost(isDropped),
        grown: () => undefined,
      },
    });
    volumes.push(
      new GuestVolume({
        index,
        name,
        clock,
        upstream: connected,
        reader: connected.once,
        tracker,
        marks,
        proof,
        mirror,
        log: silentLogger,
        gate: null,
        freeze: null,
        acknowledgement: null,
        ...options.waitsFor,
        upstreamIsUp: () => true,
        upstreamDoubt: connected,
        doubted: () => options.doubted?.(),
      }),
    );
  }
  const [volume] = volumes;
  if (volume === undefined) throw new Error('there is a volume');
  const courtesy = new Courtesy(latency);
  const reads = new BackgroundReads(clock, courtesy);
  const flusher = new Flusher({ clock, log: silentLogger, volumes, tracker, proof, mirror, idleMs: 1000 });
  parts.flusher = flusher;
  const hashes = new HashClient(clock, platform.randomness);
  const comparer = new Comparer(platform.clock, mirror, hashes);
  parts.copier = new Copier({
    clock,
    volumes,
    tracker,
    proof,
    mirror,
    log: silentLogger,
    granularityBytes: GRANULARITY,
    pace: new Pace(clock, null),
    reads,
    comparer,
    ended: (progress) => ended.push(progress),
    unreadable: (_volume, offset, length) => unreadable.push([offset, length]),
  });
  // A new tracker has everything marked; here both sides are empty and equal, and the first acknowledgement proves it.
  for (const { index, sizeBytes } of volumes) tracker.numbered(tracker.take(index, 0, sizeBytes), 1, 0);
  const reader = new FrameReader({
    frame: (header, raw) => {
      const { type, flags, number, offset, length } = header;
      records.push({ type, flags, number, offset, length, data: Buffer.concat(payloadOf(header, raw)) });
    },
  });
  mirror.inStep(0, chainStart(line));
  mirror.linkUp({
    congested: false,
    send: (buffers) => {
      for (const buffer of buffers) reader.push(Buffer.from(buffer));
    },
  });
  const lose = (): void => {
    lost.tell(new LinkFault('connection-lost', 'gone'));
  };
  return {
    ...{
      platform,
      upstream,
      devices: disks,
      volume,
      volumes,
      tracker,
      mirror,
      flusher,
      comparer,
      hashes,
      latency,
      courtesy,
      reads,
    },
    ...{ records, ended, unreadable, failures, lose },
    run: async (work) => {
      const outcome = await run(work);
      mirror.hurry();
      return outcome;
    },
  };
}
