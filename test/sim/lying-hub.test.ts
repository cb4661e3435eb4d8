/** A hub that acknowledges what it was never sent: believing it would clear marks without proof. */
import { type Address } from '@rephub/platform';
import { type Ack, FrameLink, FrameType } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { Cluster } from './cluster.js';

const LINK: Address = { kind: 'tcp', host: '127.0.0.1', port: 9010 };

test.each<[string, Ack]>([
  ['numbers that were never sent', { received: 1_000_000, durable: 1_000_000, stalled: null }],
  ['more durable than received', { received: 0, durable: 1, stalled: null }],
])('a hub that acknowledges %s is not believed (promise CLEAR)', async (_what, lie) => {
  const cluster = new Cluster({ seed: 5, diskBytes: 4 * 1024 * 1024 });
  await cluster.makeDisks();
  const codes: string[] = [];
  await cluster.agentHost.network.listen(LINK, (connection) => {
    const closed = (): void => undefined;
    const link: FrameLink = new FrameLink({
      connection,
      clock: cluster.clock,
      beat: () => ({ sentMs: 0, echoMs: null, unixMs: 0, report: null }),
      handlers: {
        hello: () => {
          link.use({
            start: () => {
              link.use({ record: () => undefined, refuse: ({ code }) => codes.push(code), closed });
              link.sendControl(FrameType.Ack, { received: 0, durable: 0, stalled: null });
              link.sendControl(FrameType.Ack, lie);
            },
            closed,
          });
          link.sendControl(FrameType.Welcome, {
            protocol: 1,
            features: [],
            software: 'a liar',
            hubId: '00000000-0000-4000-8000-000000000001',
            epoch: 1,
            heartbeatMs: 1000,
            timeoutMs: 5000,
            group: null,
          });
        },
        closed,
      },
    });
  });
  await cluster.startAgent();
  await cluster.clock.runUntil(() => codes.length > 0, 60_000);
  expect(codes[0]).toBe('ack-beyond');
  expect(cluster.agent?.status().durableSeq).toBe(0);
  expect(cluster.agent?.status().state).toBe('unprotected');
});
