import { ProtocolFault } from '@rephub/platform';
import type { Hashes, HashRegion, RegionHashes } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { HashRequests, MAX_ASKED } from './hash-requests.js';

const request = (tag: number): HashRegion => ({
  tag,
  number: 5,
  volume: 0,
  offset: 0,
  length: 4096,
  blockBytes: 4096,
  key: Buffer.alloc(16),
});
const hashes: RegionHashes = { covered: 4096, runs: [1, 0], digests: Buffer.alloc(0) };

test('an answer goes back under its tag, a failure as a refusal with its code', async () => {
  const sent: Hashes[] = [];
  const requests = new HashRequests(
    ({ tag }) => (tag === 1 ? Promise.resolve(hashes) : Promise.reject(new ProtocolFault('hash-range', 'beyond'))),
    (answer) => sent.push(answer),
  );
  requests.asked(request(1));
  requests.asked(request(2));
  await Promise.resolve().then(() => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  expect(sent).toEqual([
    { tag: 1, hashes, refused: null },
    { tag: 2, hashes: null, refused: { code: 'hash-range', message: 'beyond' } },
  ]);
});

test('one request more than may be under way is the agent’s fault', () => {
  const requests = new HashRequests(
    () => new Promise(() => undefined),
    () => undefined,
  );
  for (let tag = 1; tag <= MAX_ASKED; tag++) requests.asked(request(tag));
  expect(() => {
    requests.asked(request(99));
  }).toThrow(ProtocolFault);
});

test('after the end of the session waiting requests are cancelled and nothing is sent', async () => {
  const signals: AbortSignal[] = [];
  const sent: Hashes[] = [];
  const requests = new HashRequests(
    (_request, signal) => {
      signals.push(signal);
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new Error('cancelled'));
        });
      });
    },
    (answer) => sent.push(answer),
  );
  requests.asked(request(1));
  requests.end();
  await new Promise((resolve) => setImmediate(resolve));
  expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
  expect(sent).toEqual([]);
});
