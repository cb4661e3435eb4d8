import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockRequest, NbdError } from '../block-device.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { memoryNetwork } from '../testing/memory-network.js';
import { option, RawPeer, request, u32, u64, wideRequest } from '../testing/raw-peer.js';
import { ADDRESS, Directory, infoOption, meet, type Meeting, metaOption, SIZE } from '../testing/server-meeting.js';
import type { ServerFault } from './limits.js';
import { NbdServer } from './server.js';

const [GO, STRUCTURED, SET_META, EXTENDED] = [7, 8, 10, 11];

describe('transmission', () => {
  async function transmit(framing: 'simple' | 'structured' | 'extended'): Promise<Meeting> {
    const meeting = await meet();
    if (framing === 'structured') await meeting.ask(option(STRUCTURED));
    if (framing === 'extended') await meeting.ask(option(EXTENDED));
    await meeting.ask(infoOption(GO, 'disk', 3));
    return meeting;
  }

  it('unknown commands and flags are EINVAL and the connection goes on', async () => {
    const { peer } = await transmit('simple');
    peer.send(request(99, 1, 0, 0), request(0, 2, 0, 512, 1 << 9), request(0, 3, 0, 512, 4), request(0, 4, 0, 512));
    await settle();
    const answer = peer.take();
    expect([0, 16, 32, 48].map((at) => [answer.readUInt32BE(at + 12), answer.readUInt32BE(at + 4)])).toEqual([
      [1, NbdError.Einval],
      [2, NbdError.Einval],
      [3, NbdError.Einval],
      [4, 0],
    ]);
  });

  it('extended requests with 64-bit lengths work, and every reply is extended and repeats the offset', async () => {
    const { peer } = await transmit('extended');
    peer.send(
      wideRequest(1, 1, 512, 512, 32, Buffer.alloc(512, 7)),
      wideRequest(6, 2, 1024, SIZE - 1024),
      wideRequest(4, 3, 0, 2 ** 40),
      wideRequest(1, 4, 0, 512),
      wideRequest(0, 5, 0, 3, 32, Buffer.alloc(3)),
      wideRequest(0, 6, 512, 512),
    );
    await settle();
    const answer = peer.take();
    const seen: unknown[] = [];
    for (let at = 0; at < answer.length;) {
      const length = Number(answer.readBigUInt64BE(at + 24));
      expect(answer.readUInt32BE(at)).toBe(0x6e8a278c);
      const type = answer.readUInt16BE(at + 6);
      seen.push([
        answer.readUInt32BE(at + 12),
        type,
        Number(answer.readBigUInt64BE(at + 16)),
        type === 0x8001 ? answer.readUInt32BE(at + 32) : length,
      ]);
      at += 32 + length;
    }
    expect(seen).toEqual([
      [1, 0, 512, 0],
      [2, 0, 1024, 0],
      [3, 0x8001, 0, NbdError.Einval],
      [4, 0x8001, 0, NbdError.Einval],
      [5, 0x8001, 0, NbdError.Einval],
      [6, 1, 512, 520],
    ]);
  });

  it('extended block status may name the contexts it is about, by id, with a length of its own', async () => {
    const { ask, peer, server } = await meet();
    await ask(option(EXTENDED), metaOption(SET_META, 'disk', 'base:allocation', 'rephub:dirty', 'rephub:changed:x'));
    await ask(infoOption(GO, 'disk', 3));
    const ask_ = (cookie: number, length: number | bigint, ...ids: readonly number[]): Buffer => {
      const payload = Buffer.concat([u64(length), ...ids.map(u32)]);
      return wideRequest(7, cookie, 512, payload.length, 32, payload);
    };
    peer.send(
      ask_(1, 4096, 3),
      ask_(2, 4096, 2, 1),
      wideRequest(7, 3, 512, 4096),
      ask_(4, 4096, 2, 2),
      ask_(5, 4096, 4),
      ask_(6, 4096, 0),
      ask_(7, 4096, 1, 2, 3, 1),
      ask_(8, 4096),
      ask_(9, 0, 1),
      ask_(10, SIZE, 1),
      ask_(11, 2n ** 63n, 1),
      ask_(12, 100, 1),
      wideRequest(7, 13, 512, 5, 32, Buffer.alloc(5)),
      ask_(14, 512, 1),
    );
    await settle();
    const answer = peer.take();
    const seen: unknown[] = [];
    for (let at = 0; at < answer.length;) {
      const body = answer.subarray(at + 32, at + 32 + Number(answer.readBigUInt64BE(at + 24)));
      const isError = answer.readUInt16BE(at + 6) === 0x8001;
      const what = isError ? 'error' : `context ${body.readUInt32BE(0)}, ${body.readBigUInt64BE(8)} bytes`;
      seen.push([answer.readUInt32BE(at + 12), answer.readUInt16BE(at + 4), isError ? body.readUInt32BE(0) : what]);
      at += 32 + body.length;
    }
    const refused = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13].map((cookie) => [cookie, 1, NbdError.Einval]);
    expect(seen).toEqual([
      [1, 1, 'context 3, 4096 bytes'],
      [2, 0, 'context 2, 4096 bytes'],
      [2, 1, 'context 1, 4096 bytes'],
      [3, 0, 'context 1, 4096 bytes'],
      [3, 0, 'context 2, 4096 bytes'],
      [3, 1, 'context 3, 4096 bytes'],
      ...refused,
      [14, 1, 'context 1, 512 bytes'],
    ]);
    expect(server.clients()).toMatchObject([{ requestsInFlight: 0, bytesInFlight: 0 }]);
  });

  it('an extended payload beyond what any export takes ends the connection before it is read', async () => {
    const { peer, faults } = await transmit('extended');
    peer.send(wideRequest(1, 1, 0, 32 * 1024 * 1024 + 1, 32));
    await settle();
    expect(faults.map(({ code }) => code)).toEqual(['payload-too-long']);
    expect(peer.isClosed).toBe(true);
  });

  it('a device that leaves a context unanswered: of allocation nothing is known, of any other the request fails', async () => {
    const { ask, peer, directory, faults } = await meet();
    directory.device.submit = (one) => {
      one.extents = one.contexts.map(() => ({ runs: [] }));
      one.complete(0);
    };
    await ask(
      option(EXTENDED),
      metaOption(SET_META, 'disk', 'base:allocation', 'rephub:dirty'),
      infoOption(GO, 'disk'),
    );
    const status = (cookie: number, id: number): Buffer =>
      wideRequest(7, cookie, 512, 12, 32, Buffer.concat([u64(4096), u32(id)]));
    peer.send(status(1, 1), status(2, 2));
    await settle();
    const answer = peer.take();
    expect([answer.readUInt16BE(6), answer.readBigUInt64BE(40), answer.readBigUInt64BE(48)]).toEqual([6, 4096n, 0n]);
    const second = answer.subarray(56);
    expect([second.readUInt16BE(6), second.readUInt32BE(32)]).toEqual([0x8001, NbdError.Eio]);
    expect(faults.map(({ code }) => code)).toEqual(['internal']);
  });

  it.each([
    ['is lost', (peer: RawPeer) => peer.connection.destroy()],
    ['has ended its side, as a killed one does', (peer: RawPeer) => peer.connection.end()],
    ['has said goodbye', (peer: RawPeer) => peer.send(request(2, 9, 0, 0))],
  ])('a device can see that nobody hears its answer any more: the client %s', async (_what, leave) => {
    const { peer, directory } = await transmit('simple');
    const pending: BlockRequest[] = [];
    directory.device.submit = (one) => void pending.push(one);
    peer.send(request(3, 1, 0, 0));
    await settle();
    const before = pending.map(({ owner }) => owner.isGone);
    leave(peer);
    await settle();
    expect([before, pending.map(({ owner }) => owner.isGone)]).toEqual([[false], [true]]);
    for (const one of pending) one.complete(0);
    await settle();
  });

  it("a device's ENOTSUP reaches a client only as the answer to a fast zeroing", async () => {
    const { peer, directory } = await transmit('simple');
    directory.device.submit = (one) => one.complete(NbdError.Enotsup);
    peer.send(request(6, 1, 0, 512), request(6, 2, 0, 512, 16), request(0, 3, 0, 512));
    await settle();
    const answer = peer.take();
    expect([0, 16, 32].map((at) => answer.readUInt32BE(at + 4))).toEqual([
      NbdError.Einval,
      NbdError.Enotsup,
      NbdError.Einval,
    ]);
  });

  it.each([
    ['bad magic', 'bad-request-magic', [Buffer.from('garbage garbage garbage garbage!')]],
    ['an old magic', 'bad-request-magic', [u32(0x12560953)]],
  ])('%s ends the connection and is counted', async (_, code, parts) => {
    const { peer, faults, directory } = await transmit('simple');
    peer.send(...parts);
    await settle();
    expect(faults.map((fault) => fault.code)).toEqual([code]);
    expect(peer.isClosed).toBe(true);
    expect(directory.open_).toBe(0);
  });

  it('an end in the middle of a header or of a payload is counted; one between requests is not', async () => {
    const write = request(1, 1, 0, 1024, 0, Buffer.alloc(1024));
    for (const [length, codes] of [
      [10, ['request-cut']],
      [500, ['request-cut']],
      [write.length, []],
    ] as const) {
      const { peer, faults, directory } = await transmit('simple');
      peer.send(write.subarray(0, length));
      peer.connection.end();
      await settle();
      expect(faults.map(({ code }) => code)).toEqual(codes);
      expect(directory.open_).toBe(0);
      expect(peer.take().length).toBe(length === write.length ? 16 : 0);
    }
  });

  it('requests pipelined in front of DISC are answered before the end; what follows it is not read', async () => {
    const { peer, faults } = await transmit('simple');
    peer.send(
      request(0, 1, 0, 512),
      request(1, 2, 0, 512, 0, Buffer.alloc(512)),
      request(2, 0, 0, 0),
      Buffer.from('garbage'),
    );
    await settle();
    expect(peer.take().length).toBe(16 + 512 + 16);
    expect(peer.isEnded).toBe(true);
    expect(faults).toEqual([]);
  });

  it('a client that ignores our end is cut off after a moment', async () => {
    const { peer, clock } = await transmit('simple');
    peer.send(request(2, 0, 0, 0));
    await settle();
    expect([peer.isEnded, peer.isClosed]).toEqual([true, false]);
    clock.advance(2_000);
    await settle();
    expect(peer.isClosed).toBe(true);
  });

  it('a client that does not read its replies is not read from beyond a bound', async () => {
    const { peer, server } = await transmit('simple');
    peer.connection.pause();
    for (let index = 0; index < 100; index++) peer.send(request(0, index, 0, 131_072));
    await settle();
    const done = server.clients()[0]?.requestsDone ?? 0;
    expect(done).toBeLessThan(15);
    peer.connection.resume();
    await settle();
    expect(peer.take().length).toBe(100 * (16 + 131_072));
  });

  it('a write beyond 32 MiB is read off without being kept, and refused', async () => {
    const { peer, server } = await transmit('simple');
    const length = 33 * 1024 * 1024;
    peer.send(request(1, 1, 0, length));
    for (let sent = 0; sent < length; sent += 1024 * 1024) {
      peer.send(Buffer.alloc(1024 * 1024));
      await settle();
      expect(server.clients()[0]?.bytesInFlight).toBe(0);
    }
    expect(peer.take().readUInt32BE(4)).toBe(NbdError.Einval);
  });

  it('a read that the device fails tells from where on, when structured', async () => {
    const { peer, directory } = await transmit('structured');
    const submit = directory.device.submit.bind(directory.device);
    directory.device.submit = (one) => {
      if (one.offset === 1024) one.complete(NbdError.Eio);
      else submit(one);
    };
    peer.send(request(0, 9, 1024, 512), request(0, 10, 0, 512));
    await settle();
    const answer = peer.take();
    expect([answer.readUInt16BE(4), answer.readUInt16BE(6), answer.readUInt32BE(16)]).toEqual([1, 0x8002, 14]);
    expect([answer.readUInt32BE(20), answer.readUInt16BE(24), answer.readBigUInt64BE(26)]).toEqual([5, 0, 1024n]);
    expect(answer.readUInt16BE(34 + 6)).toBe(2);
  });

  it('a device that answers a read with another length is EIO to the client and counted as our bug', async () => {
    const { peer, directory, faults } = await transmit('simple');
    directory.device.submit = (one) => {
      one.data.push(Buffer.alloc(511));
      one.complete(0);
    };
    peer.send(request(0, 9, 1024, 512));
    await settle();
    const answer = peer.take();
    expect([answer.length, answer.readUInt32BE(4)]).toEqual([16, NbdError.Eio]);
    expect(faults.map(({ code }) => code)).toEqual(['internal']);
  });

  it('a device that throws ends the connection of that client, which is gone all the same', async () => {
    const { peer, directory, faults, server } = await transmit('simple');
    directory.device.submit = () => {
      throw new Error('a bug');
    };
    peer.send(request(0, 9, 1024, 512));
    await settle();
    expect(peer.isClosed).toBe(true);
    expect(faults.map(({ code }) => code)).toEqual(['internal']);
    expect([server.clients(), directory.open_]).toEqual([[], 0]);
  });

  it('any flipped bit in a whole session, in any chunking: answered, refused or ended, and nothing stays open', async () => {
    const session = Buffer.concat([
      u32(3),
      option(STRUCTURED),
      metaOption(SET_META, 'disk', 'base:allocation'),
      infoOption(GO, 'disk', 1, 3),
      request(1, 1, 0, 512, 0, Buffer.alloc(512, 1)),
      request(0, 2, 0, 1024),
      request(7, 3, 0, SIZE),
      request(6, 4, 512, 512),
      request(3, 5, 0, 0),
      request(2, 0, 0, 0),
    ]);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(session.length * 8 - 1),
        fc.array(fc.nat(session.length), { maxLength: 5 }),
        async (bit, cuts) => {
          const { peer, directory, server, faults, clock } = await (async () => {
            const meeting = {
              clock: new ManualClock(),
              network: memoryNetwork(),
              directory: new Directory(),
              faults: [] as ServerFault[],
            };
            const started = new NbdServer({
              platform: meeting,
              exports: meeting.directory,
              onFault: (one) => meeting.faults.push(one),
            });
            await started.listen(ADDRESS);
            return {
              ...meeting,
              server: started,
              peer: new RawPeer(await meeting.network.connect(ADDRESS, { timeoutMs: 1 })),
            };
          })();
          const flipped = Buffer.from(session);
          flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
          const at = [0, ...cuts.sort((one, other) => one - other), flipped.length];
          for (const [index, from] of at.entries()) {
            peer.send(flipped.subarray(from, at[index + 1] ?? from));
            for (let turn = 0; turn < 20; turn++) await Promise.resolve();
          }
          peer.connection.end();
          await settle();
          clock.advance(60_000);
          await settle();
          expect(server.clients()).toEqual([]);
          expect(directory.open_).toBe(0);
          expect(faults.filter(({ code }) => code === 'internal')).toEqual([]);
        },
      ),
      { numRuns: 150 },
    );
  });
});
