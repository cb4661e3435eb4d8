import { StorageFault } from '@rephub/platform';
import { SimFiles, simPlatform, type SimPlatform } from '@rephub/platform/sim';
import { type AgentReport, decideLineage, type Hello } from '@rephub/protocol';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { GroupCounters } from '../counters.js';
import { isRefusal, type Meeting, type Refusal } from '../session/session.js';
import { AGENT, helloOf, LINE, NONCE, OTHER_AGENT, OTHER_NONCE } from '../session/testing/hello.js';
import type { GroupStore } from '../storage/index.js';
import { DIRECTORY, openStore } from '../storage/testing/store-kit.js';
import { AgentSeat, type SeatedSession } from './agent-seat.js';
import { OwnFaults } from './own-faults.js';

const HUB = '00000000-0000-4000-8000-000000000009';
const OTHER_LINE = '00000000-0000-4000-8000-00000000000d';

/** AGENT session of which only is noted what is done with it. */
function sessionOf(done: string[] = []): SeatedSession {
  return {
    peer: 'agent',
    isRunning: true,
    isPaused: false,
    hasBegun: true,
    farewell: null,
    hasHashes: true,
    request: (kind) => done.push(`asked for ${kind}`),
    readRegion: () => Promise.reject(new Error('not asked for here')),
    progressed: () => undefined,
    congested: () => undefined,
    end: (reason) => done.push(`ended: ${reason}`),
  };
}

interface Rig {
  readonly seat: AgentSeat;
  readonly told: string[];
  store: GroupStore | null;
  isClosing: boolean;
  isBeingSeeded: boolean;
  isOpening: boolean;
}

function rig(host: SimPlatform): Rig {
  const told: string[] = [];
  let last: Promise<unknown> = Promise.resolve();
  const made: Rig = {
    told,
    store: null,
    isClosing: false,
    isBeingSeeded: false,
    isOpening: false,
    seat: new AgentSeat({
      name: 'vm1',
      directory: DIRECTORY,
      around: {
        platform: host,
        identity: { hubId: HUB, epoch: 1 },
        software: 'test',
        times: { heartbeatMs: 1000, timeoutMs: 5000 },
        toldSoFar: () => () => true,
      },
      tell: (_level, event) => told.push(event),
      counters: new GroupCounters(),
      faults: new OwnFaults(host.clock, (_level, event) => told.push(event)),
      storage: {
        get store() {
          return made.store;
        },
        open: async () => (made.store = await openStore(host)),
        closeIfBlank: () => Promise.resolve(),
        trouble: null,
        get isOpening() {
          return made.isOpening;
        },
      },
      isClosing: () => made.isClosing,
      isBeingSeeded: () => made.isBeingSeeded,
      serially: (task) => {
        const run = last.then(task);
        last = run.catch(() => undefined);
        return run;
      },
      changed: () => undefined,
    }),
  };
  return made;
}

function codeOf(answer: object): string {
  return isRefusal(answer) ? answer.refused.code : 'let in';
}

/** From Hello to Start, as both sides go through it. */
async function seated(seat: AgentSeat, session: SeatedSession, hello: Hello): Promise<GroupStore | Refusal> {
  const meeting: Meeting | Refusal = await seat.meet(session, hello);
  if (isRefusal(meeting)) return meeting;
  return await seat.begin(session, hello, decideLineage(hello, meeting.welcome.group));
}

const REPORT: AgentReport = {
  ...{ state: 'protected', reason: 'in step', mode: 'async', effectiveMode: 'async', rpoMs: 0 },
  ...{ lagBytes: 0, dirtyBytes: 0, lastNumber: 10, resync: null, lastResync: null },
};

/** A store of which only its newest point matters. */
function standIn({ number, line }: { readonly number: number; readonly line: string }): GroupStore {
  const state = { line: { id: line, parent: null }, consistentNumber: number, durableNumber: number };
  return { state } as unknown as GroupStore;
}

describe('AgentSeat', () => {
  let host: SimPlatform;
  beforeEach(() => {
    host = simPlatform(1, { files: new SimFiles() });
  });

  it('keeps nothing of an agent that has only asked; from its Start on it owns the group, durably', async () => {
    const made = rig(host);
    const session = sessionOf();
    expect(codeOf(await made.seat.meet(session, helloOf()))).toBe('let in');
    expect([made.store, await host.files.status(DIRECTORY)]).toEqual([null, null]);
    expect(codeOf(await seated(made.seat, session, helloOf()))).toBe('let in');
    const after = simPlatform(1, { files: host.files.crash({ seed: 1, fate: 'lose' }) });
    expect((await openStore(after)).state).toMatchObject({
      owner: { agentId: AGENT, session: 5, nonce: NONCE },
      line: { id: LINE },
    });
    expect(made.told).toEqual(['group-created', 'session-began']);
  });

  it('ends an older session of the same agent before a newer one is told anything, and lets it begin nothing', async () => {
    const { seat } = rig(host);
    const done: string[] = [];
    const [older, newer] = [sessionOf(done), sessionOf()];
    await seat.meet(older, helloOf());
    await seat.meet(newer, helloOf({ session: 6, nonce: OTHER_NONCE }));
    expect(done).toEqual(['ended: a newer session of the same agent has taken over']);
    const hello = helloOf();
    expect(codeOf(await seat.begin(older, hello, decideLineage(hello, null)))).toBe('session-replaced');
    seat.over(older, null);
    expect(seat.session).toBe(newer);
  });

  it('has heard the agent when its session begins, though it knows none of its figures yet', async () => {
    const { seat } = rig(host);
    const session = sessionOf();
    await host.clock.advance(6000);
    await seat.meet(session, helloOf());
    expect(seat.last.unheardMs).toBe(6000);
    await seated(seat, session, helloOf());
    expect([seat.last.unheardMs, seat.last.silentMs]).toEqual([0, 6000]);
  });

  it('knows after a restart what the agent told before, whatever the wall clock did, and of no other line or older point', async () => {
    const made = rig(host);
    const session = sessionOf();
    await seated(made.seat, session, helloOf());
    await made.seat.remember();
    expect(await host.files.status(`${DIRECTORY}/heard.json`)).toBeNull();
    made.store = standIn({ number: 5, line: LINE });
    await host.clock.advance(10_000);
    made.seat.last.told({ echoMs: host.clock.monotonicMs() }, { ...REPORT, rpoMs: 400 });
    await made.seat.remember();
    expect(made.seat.heardBefore).toBeNull();
    for (const jumpMs of [0, 3_600_000, -3_600_000]) {
      host.clock.jumpUnix(jumpMs);
      const next = rig(host);
      await next.seat.recover();
      await host.clock.advance(2000);
      next.store = standIn({ number: 5, line: LINE });
      expect(next.seat.heardBefore?.ageMs).toBeGreaterThanOrEqual(2400 + Math.max(0, jumpMs));
      // One that is back and does not know what its predecessor left makes nothing younger.
      next.seat.last.told({ echoMs: host.clock.monotonicMs() }, { ...REPORT, rpoMs: null });
      expect(next.seat.heardBefore?.ageMs).toBeGreaterThanOrEqual(2400 + Math.max(0, jumpMs));
      next.store = standIn({ number: 4, line: LINE });
      expect(next.seat.heardBefore).toBeNull();
      next.store = standIn({ number: 5, line: OTHER_LINE });
      expect(next.seat.heardBefore).toBeNull();
    }
  });

  it('turns agents away at once while storage is being opened, and whoever was welcomed with another one', async () => {
    const made = rig(host);
    const session = sessionOf();
    await seated(made.seat, session, helloOf());
    made.isOpening = true;
    expect(await made.seat.meet(sessionOf(), helloOf({ session: 6 }))).toMatchObject({
      refused: { code: 'group-failed' },
      retryAfterMs: 1000,
    });
    made.isOpening = false;
    const newer = sessionOf();
    const hello = helloOf({ session: 6 });
    const meeting = await made.seat.meet(newer, hello);
    if (isRefusal(meeting)) expect.unreachable('it is let in');
    await made.store?.close({ drain: false });
    made.store = await openStore(host);
    const { group } = meeting.welcome;
    expect(codeOf(await made.seat.begin(newer, hello, decideLineage(hello, group)))).toBe('group-failed');
    expect(made.store.state.owner?.session).toBe(5);
  });

  it('is not moved by another agent, which begins nothing and ends nothing', async () => {
    const { seat } = rig(host);
    const done: string[] = [];
    const session = sessionOf(done);
    await seated(seat, session, helloOf());
    expect(codeOf(await seat.meet(sessionOf(), helloOf({ agentId: OTHER_AGENT })))).toBe('foreign-agent');
    expect([seat.session, done]).toEqual([session, []]);
  });

  it('goes to another agent by the word of an operator, once, whether or not the hub was started again in between', async () => {
    const first = rig(host);
    await expect(first.seat.enroll()).rejects.toMatchObject({ code: 'not-owned' });
    await seated(first.seat, sessionOf(), helloOf());
    await first.seat.enroll();
    await first.store?.close({ drain: false });
    const again = rig(host);
    again.store = await openStore(host);
    await again.seat.recover();
    const other = helloOf({
      agentId: OTHER_AGENT,
      session: 1,
      nonce: OTHER_NONCE,
      line: { id: OTHER_LINE, parent: null },
    });
    expect(codeOf(await seated(again.seat, sessionOf(), other))).toBe('let in');
    expect(again.store.state).toMatchObject({ owner: { agentId: OTHER_AGENT }, line: { id: OTHER_LINE } });
    expect(again.told).toContain('owner-changed');
    expect(codeOf(await again.seat.meet(sessionOf(), helloOf()))).toBe('foreign-agent');
  });

  it('goes to nobody else while its owner is there, be it in the middle of its handshake only', async () => {
    const made = rig(host);
    const first = sessionOf();
    made.store = await openStore(host);
    await seated(made.seat, first, helloOf());
    await made.seat.enroll();
    made.seat.over(first, null);
    const back = { ...sessionOf(), isRunning: false };
    await made.seat.meet(back, helloOf({ session: 6 }));
    const other = helloOf({ agentId: OTHER_AGENT, session: 1, nonce: OTHER_NONCE });
    expect(codeOf(await made.seat.meet(sessionOf(), other))).toBe('owner-connected');
    expect(made.seat.session).toBe(back);
    made.seat.over(back, null);
    expect(codeOf(await made.seat.meet(sessionOf(), other))).toBe('let in');
  });

  it('is not kept by an owner whose handshake the disk has refused', async () => {
    const made = rig(host);
    const first = sessionOf();
    made.store = await openStore(host);
    await seated(made.seat, first, helloOf());
    await made.seat.enroll();
    made.seat.over(first, null);
    vi.spyOn(made.store, 'toHubGroup').mockImplementationOnce(() => {
      throw new StorageFault('disk-full', 'no room');
    });
    const refused = { ...sessionOf(), hasBegun: false, isRunning: false };
    await expect(made.seat.meet(refused, helloOf({ session: 6 }))).rejects.toThrow('no room');
    expect(made.seat.session).toBe(null);
    const other = helloOf({ agentId: OTHER_AGENT, session: 1, nonce: OTHER_NONCE });
    expect(codeOf(await made.seat.meet(sessionOf(), other))).toBe('let in');
  });

  it('is empty once its session is over; what never began is not told', async () => {
    const made = rig(host);
    const session = sessionOf();
    await made.seat.meet(session, helloOf());
    made.seat.over({ ...session, hasBegun: false }, null);
    expect(made.seat.session).toBe(session);
    made.seat.over(session, null);
    expect([made.seat.session, made.told]).toEqual([null, ['session-ended']]);
    expect(() => made.seat.connected()).toThrow('is not connected');
  });

  it('lets nobody in while the hub stops or an image is being copied into the group', async () => {
    const made = rig(host);
    made.isBeingSeeded = true;
    expect(codeOf(await made.seat.meet(sessionOf(), helloOf()))).toBe('being-seeded');
    made.isBeingSeeded = false;
    made.isClosing = true;
    expect(codeOf(await made.seat.meet(sessionOf(), helloOf()))).toBe('hub-stopping');
  });
});
