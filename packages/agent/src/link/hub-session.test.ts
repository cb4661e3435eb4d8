/** One session with a hub that says what a test wants: what flows when, what its end leaves behind. */
import { silentLogger } from '@rephub/platform';
import { type SimNetwork } from '@rephub/platform/sim';
import {
  type Ack,
  type AgentReport,
  FrameLink,
  FrameType,
  type Hello,
  type HubGroup,
  type Refuse,
  type Start,
  type Welcome,
} from '@rephub/protocol';
import { writeBytes } from '@rephub/nbd';
import { expect, test } from 'vitest';
import { AGENT_DEFAULTS, type AgentConfig } from '../config.js';
import { Findings } from '../resync/findings.js';
import { Handshake } from './handshake.js';
import { HubSession } from './hub-session.js';
import { type LinkMemory } from './link-status.js';
import { ResyncOrder } from '../resync/resync-order.js';
import { Standing } from './standing.js';
import { type VolumeKit, volumeKit } from '../testing/volume-kit.js';

const HUB = '00000000-0000-4000-8000-0000000000aa';
const NONCE = '00000000-0000-4000-8000-0000000000bb';
const URL = 'tcp://127.0.0.1:9010';
const config: AgentConfig = {
  ...AGENT_DEFAULTS,
  group: 'vm1',
  volumes: [{ name: 'disk0', upstream: 'file:/disk0.raw', listen: [] }],
  listen: [],
  hubs: [URL],
  stateDirectory: '/state',
};
const REPORT: AgentReport = {
  ...{ state: 'protected', reason: 'in step', mode: 'async', effectiveMode: 'async' },
  ...{ rpoMs: 0, lagBytes: 0, dirtyBytes: 0, lastNumber: 0, resync: null, lastResync: null },
};

/** A hub that knows the group, or not (null), and acknowledges what it is told to. */
class ScriptedHub {
  readonly starts: Start[] = [];
  readonly hellos: Hello[] = [];
  readonly refusals: Refuse[] = [];
  readonly records: number[] = [];
  link: FrameLink | null = null;
  readonly #kit: VolumeKit;
  /** What another service says in its place to whoever connects. */
  greeting: Buffer | null = null;
  readonly #group: (hello: Hello) => HubGroup | null;

  constructor(kit: VolumeKit, group: (hello: Hello) => HubGroup | null) {
    this.#kit = kit;
    this.#group = group;
  }

  async listen(network: SimNetwork): Promise<void> {
    await network.listen({ kind: 'tcp', host: '127.0.0.1', port: 9010 }, (connection) => {
      const { clock } = this.#kit.platform;
      if (this.greeting !== null) {
        connection.send(this.greeting);
        return;
      }
      const link = new FrameLink({
        connection,
        clock,
        beat: () => ({ sentMs: clock.monotonicMs(), echoMs: null, unixMs: clock.unixMs(), report: null }),
        handlers: {
          hello: (hello) => {
            this.hellos.push(hello);
            link.sendControl(FrameType.Welcome, this.#welcome(hello));
          },
          start: (start) => {
            this.starts.push(start);
          },
          record: ({ number }) => {
            this.records.push(number);
          },
          refuse: (refuse) => {
            this.refusals.push(refuse);
          },
          beat: () => undefined,
          closed: () => {
            this.link = null;
          },
        },
      });
      this.link = link;
    });
  }

  ack(received: number, durable: number, stalled: Ack['stalled'] = null): void {
    this.link?.sendControl(FrameType.Ack, { received, durable, stalled });
  }

  refuse(code: string, retryAfterMs: number | null): void {
    this.link?.sendControl(FrameType.Refuse, { code, message: `because of ${code}`, retryAfterMs });
  }

  #welcome(hello: Hello): Welcome {
    return {
      ...{ protocol: 1, features: [], software: 'test', hubId: HUB, epoch: 1, heartbeatMs: 1000, timeoutMs: 5000 },
      group: this.#group(hello),
    };
  }
}

/** What the hub holds of the group when it has everything that `hello` speaks of. */
function inStep(hello: Hello): HubGroup {
  return {
    ...{ owner: hello.agentId, ownerSession: hello.session, ownerNonce: hello.nonce, line: hello.line },
    ...{ lastNumber: hello.lastNumber, lastChecksum: hello.window?.previousChecksum ?? 0, spanOpen: false },
    ...{ consistentNumber: hello.lastNumber, failedOver: false, volumes: hello.volumes },
  };
}

interface Meeting {
  readonly kit: VolumeKit;
  readonly hub: ScriptedHub;
  readonly memory: LinkMemory;
  readonly standing: Standing;
  readonly session: HubSession;
  /** How often records began to flow. */
  readonly up: { readonly comparesAll: boolean }[];
  readonly durable: number[];
  /** Settles when the session is over: the wait before the next one. */
  readonly over: Promise<number | null>;
  /** Another session of the same process. */
  again(): { readonly session: HubSession; readonly over: Promise<number | null> };
}

async function meet(group: (hello: Hello) => HubGroup | null): Promise<Meeting> {
  const kit = await volumeKit();
  const { comparer, hashes, mirror, platform, tracker, volume } = kit;
  // The kit's mirror is linked to the kit's own list of records; here a hub takes them.
  mirror.linkDown();
  const memory: LinkMemory = {
    ...{
      reason: 'not connected yet',
      refused: false,
      replaced: false,
      notAHub: false,
      everConsistent: false,
      hub: null,
      sessions: 0,
      lastVerdict: null,
    },
  };
  const standing = new Standing(tracker);
  const order = new ResyncOrder(tracker, silentLogger);
  const common = { platform, log: silentLogger, tracker, mirror, comparer, order, volumes: [volume] };
  const handshake = new Handshake({ ...common, config, nonce: NONCE, changedBehind: null }, standing);
  const up: { readonly comparesAll: boolean }[] = [];
  const durable: number[] = [];
  const hub = new ScriptedHub(kit, group);
  await hub.listen(platform.network);
  const again = () => {
    const session = new HubSession(
      {
        ...{ ...common, memory, standing, hashes, handshake },
        report: () => REPORT,
        verify: () => undefined,
        copyAll: () => Promise.resolve(),
        linkedUp: (comparesAll) => up.push({ comparesAll }),
        acknowledged: (number) => durable.push(number),
        findings: new Findings(tracker, silentLogger, () => platform.clock.monotonicMs()),
      },
      URL,
    );
    const over = session.run();
    over.catch(() => undefined);
    return { session, over };
  };
  return { kit, hub, memory, standing, up, durable, ...again(), again };
}

test('records flow once the hub has accepted Start, not before', async () => {
  const { kit, hub, memory, up } = await meet(() => null);
  const { clock } = kit.platform;
  await clock.advance(100);
  expect(hub.starts).toMatchObject([{ verdict: 'first-sync', row: 'L1-unknown-new' }]);
  expect(kit.mirror.linked).toBe(false);
  expect(hub.records).toEqual([]);
  hub.ack(0, 0);
  await clock.advance(100);
  expect(kit.mirror.linked).toBe(true);
  expect(up).toEqual([{ comparesAll: true }]);
  expect(memory).toMatchObject({ reason: null, refused: false, sessions: 1, hub: { id: HUB, epoch: 1 } });
  expect(hub.records[0]).toBe(hub.starts[0]?.firstNumber);
});

test('what the hub has not got when the link is cut is sent again, and nothing else', async () => {
  let knows: HubGroup | null = null;
  const meeting = await meet(() => knows);
  const { kit, hub, durable } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  hub.ack(0, 0);
  await clock.advance(2000);
  const { mirror } = kit;
  const first = mirror.lastNumber;
  expect(hub.records.at(-1)).toBe(first);
  hub.ack(first, first);
  await clock.advance(100);
  expect(durable).toEqual([0, first]);
  const checksum = mirror.lastChecksum;
  await kit.run(writeBytes(kit.volume, 4096, Buffer.alloc(4096, 'a')));
  await clock.advance(100);
  expect(hub.records).toContain(first + 1);
  // The hub has crashed before that was durable.
  for (const link of kit.platform.network.links({ kind: 'tcp', host: '127.0.0.1', port: 9010 })) link.cut();
  expect(await kit.run(meeting.over)).toBe(null);
  expect(mirror.linked).toBe(false);
  expect(meeting.memory.reason).not.toBe(null);
  await kit.run(writeBytes(kit.volume, 8192, Buffer.alloc(4096, 'b')));
  hub.records.length = 0;
  const [hello] = hub.hellos;
  if (hello === undefined) throw new Error('no Hello came');
  knows = { ...inStep(hello), lastNumber: first, lastChecksum: checksum, consistentNumber: first };
  meeting.again();
  await clock.advance(100);
  expect(hub.starts.at(-1)).toMatchObject({ verdict: 'resume' });
  expect(hub.records).toEqual([]);
  hub.ack(first, first);
  await clock.advance(100);
  expect(hub.records).toEqual([first + 1, first + 2]);
});

test('an acknowledgement of what was never sent ends the session, and is not believed', async () => {
  const meeting = await meet(() => null);
  const { kit, hub, durable } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  hub.ack(0, 0);
  await clock.advance(2000);
  const held = kit.mirror.window.count;
  expect(held).toBeGreaterThan(0);
  hub.ack(kit.mirror.lastNumber + 1, kit.mirror.lastNumber + 1);
  await kit.run(meeting.over);
  expect(kit.mirror.window.count).toBe(held);
  expect(kit.mirror.durableNumber).toBe(0);
  expect(durable).toEqual([0]);
  expect(meeting.memory.reason).toContain('acknowledges');
});

test('a group of another agent: Start is not said, the hub is told why, and the next try is far off', async () => {
  const meeting = await meet((hello) => ({ ...inStep(hello), owner: '00000000-0000-4000-8000-0000000000cc' }));
  const { hub, kit, memory, standing } = meeting;
  expect(await kit.run(meeting.over)).toBeGreaterThanOrEqual(10_000);
  await kit.platform.clock.advance(100);
  expect(hub.starts).toEqual([]);
  expect(hub.refusals).toMatchObject([{ code: 'lineage', retryAfterMs: null }]);
  expect(memory).toMatchObject({ refused: true, replaced: true, sessions: 0, lastVerdict: 'L3-foreign-agent' });
  expect(memory.reason).toContain('refuse');
  // Another owner may give the group up: this one is not barred for ever.
  expect(standing.barred).toBe(null);
});

test('a hub that has failed over bars the agent, across its restarts too', async () => {
  const meeting = await meet((hello) => ({ ...inStep(hello), failedOver: true }));
  const { kit, memory, standing } = meeting;
  await kit.run(meeting.over);
  expect(memory.lastVerdict).toBe('L5-failed-over');
  expect(standing.barred).toContain('superseded');
  await kit.platform.clock.advance(1000);
  expect(new Standing(kit.tracker).barred).toBe(standing.barred);
});

test('a refusal says when to come back, after Start too; one that says nothing waits for somebody to act', async () => {
  const meeting = await meet(() => null);
  const { hub, kit, memory } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  hub.refuse('hub-stopping', 700);
  expect(await kit.run(meeting.over)).toBe(700);
  expect(memory.refused).toBe(false);
  expect(memory.reason).toContain('hub-stopping');
  const second = meeting.again();
  await clock.advance(100);
  hub.refuse('foreign-agent', null);
  expect(await kit.run(second.over)).toBeGreaterThanOrEqual(10_000);
  expect(memory.refused).toBe(true);
});

test('a hub that holds other records under our numbers: the next Hello offers no window', async () => {
  const meeting = await meet(() => null);
  const { hub, kit } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  hub.ack(0, 0);
  await clock.advance(1000);
  hub.refuse('record-chain', 100);
  await kit.run(meeting.over);
  meeting.again();
  await clock.advance(100);
  expect(hub.hellos.map(({ window, tracking }) => [window === null, tracking])).toEqual([
    [true, 'new'],
    [true, 'untrusted'],
  ]);
});

test('an end that is asked for takes effect in the same turn, and tells whether records flowed', async () => {
  const meeting = await meet(() => null);
  const { hub, kit, memory, session } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  expect(session.connectedTo).toBe(URL);
  hub.ack(0, 0);
  await clock.advance(100);
  expect(session.leave('paused by the operator')).toBe(true);
  expect(session.connectedTo).toBe(null);
  expect(kit.mirror.linked).toBe(false);
  expect(memory.reason).toBe('paused by the operator');
  expect(session.leave('again')).toBe(false);
  await kit.run(meeting.over);
});

test('what answers is no hub: told which address --hub takes; a hub that sends a bad frame later stays a hub', async () => {
  const meeting = await meet(() => null);
  const { hub, kit, memory } = meeting;
  const { clock } = kit.platform;
  await clock.advance(100);
  hub.ack(0, 0);
  await clock.advance(100);
  hub.link?.send([Buffer.alloc(200, 0x5a)]);
  await kit.run(meeting.over);
  expect(memory).toMatchObject({ notAHub: false, reason: 'frame does not begin with its magic' });

  hub.greeting = Buffer.from('NBDMAGICIHAVEOPT\0\x03');
  expect(await kit.run(meeting.again().over)).toBe(null);
  expect(memory.notAHub).toBe(true);
  expect(memory.reason).toMatch(/speaks NBD.*: --hub takes an address of --listen of rephub serve/);

  hub.greeting = null;
  meeting.again();
  await clock.advance(100);
  expect(memory.notAHub).toBe(false);
});

test('one that is stopped before it is connected says nothing to the hub', async () => {
  const meeting = await meet(() => null);
  meeting.session.stop('the agent stops');
  expect(await meeting.kit.run(meeting.over)).toBe(null);
  await meeting.kit.platform.clock.advance(1000);
  expect(meeting.hub.hellos).toEqual([]);
});
