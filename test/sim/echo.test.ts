/** Beats of a hub that was started again: its clock began anew, so what an agent echoes must be of the session that it is in. */
import { type Address } from '@rephub/platform';
import { FrameLink, FrameType } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { Cluster } from './cluster.js';

const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };
const HOUR_MS = 3_600_000;

test('the first beat of a session echoes none of the session before (promise RPO)', async () => {
  const cluster = new Cluster({ seed: 6, diskBytes: 4 * 1024 * 1024 });
  await cluster.makeDisks();
  /** Session by session, what the agent's beats echo. */
  const echoed: (number | null)[][] = [];
  await cluster.agentHost.network.listen(LINK, (connection) => {
    const echoes: (number | null)[] = [];
    echoed.push(echoes);
    // The first hub has been up for an hour. The second one sends no beat before it has had some.
    const upMs = echoed.length === 1 ? HOUR_MS : 0;
    const heartbeatMs = echoed.length === 1 ? 100 : 4000;
    const closed = (): void => undefined;
    const link: FrameLink = new FrameLink({
      connection,
      clock: cluster.clock,
      heartbeatMs,
      beat: () => ({ sentMs: upMs + cluster.clock.monotonicMs(), echoMs: null, unixMs: 0, report: null }),
      handlers: {
        hello: () => {
          link.use({
            start: () => {
              link.use({ record: () => undefined, beat: ({ echoMs }) => void echoes.push(echoMs), closed });
              link.sendControl(FrameType.Ack, { received: 0, durable: 0, stalled: null });
            },
            closed,
          });
          link.sendControl(FrameType.Welcome, {
            ...{
              protocol: 1,
              features: [],
              software: 'a hub',
              hubId: '00000000-0000-4000-8000-000000000001',
              epoch: 1,
            },
            ...{ heartbeatMs: 1000, timeoutMs: 5000, group: null },
          });
        },
        closed,
      },
    });
  });
  await cluster.startAgent();
  await cluster.clock.runUntil(() => (echoed[0]?.at(-1) ?? 0) > HOUR_MS, 60_000);
  cluster.cutLink();
  await cluster.clock.runUntil(() => (echoed[1] ?? []).length > 0, 60_000);
  expect(echoed[1]?.[0]).toBeNull();
});
