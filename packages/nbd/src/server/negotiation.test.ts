import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NbdError } from '../block-device.js';
import { memoryDevice } from '../memory-device.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { memoryNetwork } from '../testing/memory-network.js';
import { counted, option, optionReplies, RawPeer, request, u16, u32, wideRequest } from '../testing/raw-peer.js';
import type { ExportDirectory, OpenExport, OpenRefusal } from './exports.js';
import type { ServerFault, ServerLimits } from './limits.js';
import { NbdServer } from './server.js';

const SIZE = 1024 * 1024;
const ADDRESS = { kind: 'tcp', host: 'here', port: 1 } as const;
const [EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED] = [
  1, 2, 3, 5, 6, 7, 8, 9, 10, 11,
];
const [ACK, SERVER, REP_INFO, META] = [1, 2, 3, 4];
const [UNSUP, POLICY, INVALID, UNKNOWN, SHUTDOWN, TOO_BIG, EXT_REQD] = [1, 2, 3, 6, 7, 9, 10].map(
  (code) => 0x80000000 + code,
);

class Directory implements ExportDirectory {
  open_ = 0;
  opened = 0;
  readonly device = memoryDevice(SIZE, {
    abilities: { contexts: ['base:allocation', 'rephub:dirty', 'rephub:changed:x'] },
    limits: { minimumBytes: 512 },
  });

  list(): { name: string; description: string }[] {
    return [
      { name: 'disk', description: 'a disk' },
      { name: 'ü', description: '' },
    ];
  }

  open(name: string): Promise<OpenExport | OpenRefusal> {
    if (name === 'broken') return Promise.reject(new Error('a bug'));
    if (name === 'closing') return Promise.resolve({ refused: 'shutdown', message: 'going down' });
    if (name === 'secret') return Promise.resolve({ refused: 'policy', message: 'not for you' });
    if (name === 'taken')
      return Promise.resolve({ ...this.#one(name), begin: () => ({ refused: 'policy', message: 'one writer only' }) });
    if (name !== 'disk' && name !== '') return Promise.resolve({ refused: 'unknown', message: `no ${name}` });
    return Promise.resolve(this.#one('disk'));
  }

  #one(name: string): OpenExport {
    this.open_++;
    this.opened++;
    return {
      device: this.device,
      name,
      description: 'a disk',
      release: () => {
        this.open_--;
      },
    };
  }
}

interface Meeting {
  readonly peer: RawPeer;
  readonly directory: Directory;
  readonly faults: ServerFault[];
  readonly clock: ManualClock;
  readonly server: NbdServer;
  /** Sends options and gives the replies. */
  readonly ask: (...options: readonly Buffer[]) => Promise<ReturnType<typeof optionReplies>>;
}

async function meet(clientFlags = 3, limits: Partial<ServerLimits> = {}): Promise<Meeting> {
  const clock = new ManualClock();
  const network = memoryNetwork();
  const directory = new Directory();
  const faults: ServerFault[] = [];
  const server = new NbdServer({
    platform: { clock, network },
    exports: directory,
    limits,
    onFault: (one) => faults.push(one),
  });
  await server.listen(ADDRESS);
  const peer = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
  await settle();
  expect(peer.take().toString('latin1')).toBe('NBDMAGICIHAVEOPT\x00\x03');
  peer.send(u32(clientFlags));
  const ask = async (...options: readonly Buffer[]): Promise<ReturnType<typeof optionReplies>> => {
    peer.send(...options);
    await settle();
    return optionReplies(peer.take());
  };
  return { peer, directory, faults, clock, server, ask };
}

const infoOption = (type: number, name: string, ...infos: readonly number[]): Buffer =>
  option(type, counted(name), u16(infos.length), ...infos.map(u16));
const metaOption = (type: number, name: string, ...queries: readonly string[]): Buffer =>
  option(type, counted(name), u32(queries.length), ...queries.map(counted));

describe('negotiation', () => {
  it('LIST tells every export with its description', async () => {
    const { ask } = await meet();
    const replies = await ask(option(LIST));
    expect(replies.map(({ type, data }) => [type, data.subarray(4).toString()])).toEqual([
      [SERVER, 'diska disk'],
      [SERVER, 'ü'],
      [ACK, ''],
    ]);
  });

  it('INFO tells size and flags always, and what else was asked for', async () => {
    const { ask, directory } = await meet();
    const replies = await ask(infoOption(INFO, '', 1, 2, 3, 99));
    expect(replies.map(({ type }) => type)).toEqual([REP_INFO, REP_INFO, REP_INFO, REP_INFO, ACK]);
    const [size, name, description, blockSize] = replies.map(({ data }) => data);
    expect(size?.readUInt16BE(0)).toBe(0);
    expect(size?.readBigUInt64BE(2)).toBe(BigInt(SIZE));
    expect(name?.subarray(2).toString()).toBe('disk');
    expect(description?.subarray(2).toString()).toBe('a disk');
    expect([2, 6, 10].map((at) => blockSize?.readUInt32BE(at))).toEqual([512, 4096, 33_554_432]);
    expect((await ask(infoOption(INFO, 'disk'))).map(({ type }) => type)).toEqual([REP_INFO, ACK]);
    expect(directory.open_).toBe(1);
  });

  it('DF is offered only with structured replies', async () => {
    const { ask } = await meet();
    const flagsOf = async (): Promise<number> => (await ask(infoOption(INFO, 'disk')))[0]?.data.readUInt16BE(10) ?? 0;
    expect((await flagsOf()) & 0x80).toBe(0);
    await ask(option(STRUCTURED));
    expect((await flagsOf()) & 0x80).toBe(0x80);
  });

  it('what INFO opened is what GO serves, and it is released when the client has gone', async () => {
    const { ask, directory, peer, server } = await meet();
    await ask(infoOption(INFO, 'disk'));
    expect((await ask(infoOption(GO, 'disk'))).map(({ type }) => type)).toEqual([REP_INFO, ACK]);
    expect(directory).toMatchObject({ opened: 1, open_: 1 });
    expect(server.clients()).toMatchObject([{ exportName: 'disk' }]);
    peer.send(request(2, 0, 0, 0));
    await settle();
    expect(peer.isEnded).toBe(true);
    peer.connection.end();
    await settle();
    expect(directory.open_).toBe(0);
    expect(server.clients()).toEqual([]);
  });

  it('another name lets go of the export held before', async () => {
    const { ask, directory } = await meet();
    await ask(infoOption(INFO, 'disk'), infoOption(INFO, ''));
    expect(directory).toMatchObject({ opened: 2, open_: 1 });
    await ask(infoOption(INFO, 'none'));
    expect(directory.open_).toBe(0);
  });

  it.each([
    ['an unknown export', infoOption(GO, 'none'), UNKNOWN, 'no none'],
    ['an export that policy forbids', infoOption(GO, 'secret'), POLICY, 'not for you'],
    ['an export that is closing', infoOption(GO, 'closing'), SHUTDOWN, 'going down'],
    ['an export whose opening fails', infoOption(GO, 'broken'), POLICY, 'the export could not be opened'],
    ['an export that refuses to begin', infoOption(GO, 'taken'), POLICY, 'one writer only'],
    ['an export name of 5000 bytes', infoOption(GO, 'x'.repeat(5000)), UNKNOWN, 'the export name is too long'],
    ['an unknown option', option(4711, Buffer.from('data')), UNSUP, ''],
    ['PEEK_EXPORT, withdrawn', option(4), UNSUP, ''],
    ['STARTTLS', option(STARTTLS), UNSUP, 'TLS is not available here'],
    ['STARTTLS with data', option(STARTTLS, u32(1)), INVALID, 'STARTTLS takes no data'],
    ['LIST with data', option(LIST, u32(0)), INVALID, 'LIST takes no data'],
    ['STRUCTURED_REPLY with data', option(STRUCTURED, u32(0)), INVALID, 'this option takes no data'],
    ['GO without data', option(GO), INVALID, 'malformed name or list of information'],
    [
      'GO with a name longer than itself',
      option(GO, u32(100), u16(0)),
      INVALID,
      'malformed name or list of information',
    ],
    [
      'GO with too many informations',
      option(GO, counted('disk'), u16(3), u16(0)),
      INVALID,
      'malformed name or list of information',
    ],
    [
      'GO with data left over',
      option(GO, counted('disk'), u16(0), u16(0)),
      INVALID,
      'malformed name or list of information',
    ],
    [
      'SET_META_CONTEXT before structured replies',
      metaOption(SET_META, 'disk', 'base:allocation'),
      INVALID,
      'structured replies must be negotiated first',
    ],
    ['LIST_META_CONTEXT of an unknown export', metaOption(LIST_META, 'none'), UNKNOWN, 'no none'],
    [
      'LIST_META_CONTEXT with a query longer than itself',
      option(LIST_META, counted('disk'), u32(1), u32(9)),
      INVALID,
      'malformed name or queries',
    ],
    [
      'LIST_META_CONTEXT with fewer queries than it says',
      option(LIST_META, counted('disk'), u32(0xffffffff)),
      INVALID,
      'malformed name or queries',
    ],
    [
      'LIST_META_CONTEXT with data left over',
      option(LIST_META, counted('disk'), u32(0), u32(0)),
      INVALID,
      'malformed name or queries',
    ],
    ['an option of 100,000 bytes', option(GO, Buffer.alloc(100_000)), TOO_BIG, '100000 bytes of data are too many'],
  ])('%s is refused and the negotiation goes on', async (_, bytes, type, message) => {
    const { ask, faults } = await meet();
    expect(await ask(bytes)).toMatchObject([{ option: bytes.readUInt32BE(8), type, data: Buffer.from(message) }]);
    expect((await ask(infoOption(GO, 'disk'))).map((reply) => reply.type)).toEqual([REP_INFO, ACK]);
    expect(faults.every(({ code }) => code === 'internal')).toBe(true);
  });

  it('STRUCTURED_REPLY after EXTENDED_HEADERS is refused: extended headers stay in force', async () => {
    const { ask } = await meet();
    expect(await ask(option(EXTENDED), option(STRUCTURED))).toMatchObject([{ type: ACK }, { type: EXT_REQD }]);
  });

  it.each([
    ['no query lists all', LIST_META, [], ['base:allocation', 'rephub:dirty', 'rephub:changed:x']],
    ['a namespace lists all of it', LIST_META, ['rephub:'], ['rephub:dirty', 'rephub:changed:x']],
    ['unknown namespaces list nothing', LIST_META, ['qemu:', 'x'], []],
    ['a name lists itself', LIST_META, ['base:allocation'], ['base:allocation']],
    ['no query selects nothing', SET_META, [], []],
    ['base: alone selects nothing', SET_META, ['base:'], []],
    [
      'several are selected once each',
      SET_META,
      ['rephub:dirty', 'x:y', 'base:allocation', 'rephub:dirty'],
      ['base:allocation', 'rephub:dirty'],
    ],
  ])('metadata contexts: %s', async (_, type, queries, contexts) => {
    const { ask } = await meet();
    await ask(option(STRUCTURED));
    const replies = await ask(metaOption(type, 'disk', ...queries));
    expect(replies.at(-1)?.type).toBe(ACK);
    const told = replies.slice(0, -1);
    expect(told.every((reply) => reply.type === META)).toBe(true);
    expect(told.map(({ data }) => data.subarray(4).toString())).toEqual(contexts);
    const ids = told.map(({ data }) => data.readUInt32BE(0));
    expect(ids).toEqual(type === SET_META ? contexts.map((__, index) => index + 1) : contexts.map(() => 0));
  });

  it('contexts selected for another export do not count', async () => {
    const { ask, peer } = await meet();
    await ask(option(STRUCTURED), metaOption(SET_META, '', 'base:allocation'), infoOption(GO, 'disk'));
    peer.send(request(7, 5, 0, 512));
    await settle();
    const reply = peer.take();
    expect([reply.readUInt16BE(6), reply.readUInt32BE(20)]).toEqual([0x8001, NbdError.Einval]);
  });

  it('a failed SET_META_CONTEXT takes the selection away', async () => {
    const { ask, peer } = await meet();
    await ask(option(STRUCTURED), metaOption(SET_META, 'disk', 'base:allocation'), option(SET_META, u32(9)));
    await ask(infoOption(GO, 'disk'));
    peer.send(request(7, 5, 0, 512));
    await settle();
    expect(peer.take().readUInt32BE(20)).toBe(NbdError.Einval);
  });

  it('EXPORT_NAME answers size and flags, with 124 zeroes for those who want them', async () => {
    for (const [flags, bytes] of [
      [3, 10],
      [1, 134],
    ] as const) {
      const { peer } = await meet(flags);
      peer.send(option(EXPORT_NAME, Buffer.from('disk')));
      await settle();
      const answer = peer.take();
      expect(answer.length).toBe(bytes);
      expect(answer.readBigUInt64BE(0)).toBe(BigInt(SIZE));
      peer.send(request(0, 9, 0, 512));
      await settle();
      expect(peer.take().length).toBe(16 + 512);
    }
  });

  it('ABORT is acknowledged and the connection ended', async () => {
    const { ask, peer, faults, server } = await meet();
    expect(await ask(option(ABORT, Buffer.from('whatever')))).toMatchObject([{ type: ACK }]);
    expect(peer.isEnded).toBe(true);
    peer.connection.end();
    await settle();
    expect(server.clients()).toEqual([]);
    expect(faults).toEqual([]);
  });

  it.each([
    ['unknown client flags', 'bad-client-flags', [u32(7)]],
    ['garbage for an option', 'bad-option-magic', [u32(3), Buffer.from('GET / HTTP/1.1\r\n')]],
    ['an option that claims 4 GiB', 'option-too-long', [u32(3), Buffer.from('IHAVEOPT'), u32(7), u32(0xffff_ffff)]],
    ['EXPORT_NAME of an unknown export', 'export-refused', [u32(3), option(EXPORT_NAME, Buffer.from('none'))]],
    [
      'EXPORT_NAME under extended headers',
      'export-refused',
      [u32(3), option(EXTENDED), option(EXPORT_NAME, Buffer.from('disk'))],
    ],
    ['EXPORT_NAME of 70,000 bytes', 'export-refused', [u32(3), option(EXPORT_NAME, Buffer.alloc(70_000, 65))]],
  ])('%s ends the connection and is counted', async (_, code, parts) => {
    const network = memoryNetwork();
    const faults: ServerFault[] = [];
    const directory = new Directory();
    const server = new NbdServer({
      platform: { clock: new ManualClock(), network },
      exports: directory,
      onFault: (one) => faults.push(one),
    });
    await server.listen(ADDRESS);
    const peer = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
    peer.send(...parts);
    await settle();
    expect(faults.map((fault) => fault.code)).toEqual([code]);
    expect(peer.isClosed).toBe(true);
    expect(server.clients()).toEqual([]);
    expect(directory.open_).toBe(0);
  });

  it('a client that goes while its export is being opened leaves nothing open', async () => {
    let release = 0;
    let opened: (one: OpenExport) => void = () => undefined;
    const network = memoryNetwork();
    const directory: ExportDirectory = {
      list: () => [],
      open: () =>
        new Promise((resolve) => {
          opened = resolve;
        }),
    };
    const server = new NbdServer({ platform: { clock: new ManualClock(), network }, exports: directory });
    await server.listen(ADDRESS);
    const peer = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
    peer.send(u32(3), infoOption(GO, 'slow'));
    await settle();
    peer.connection.destroy();
    await settle();
    expect(server.clients()).toHaveLength(1);
    opened({
      device: memoryDevice(512),
      name: 'slow',
      description: '',
      release: () => {
        release++;
      },
    });
    await settle();
    expect(release).toBe(1);
    expect(server.clients()).toEqual([]);
  });

  it('connections beyond the limit are closed at once and counted', async () => {
    const { server, faults } = await meet(3, { connections: 1 });
    const network = memoryNetwork();
    await network.listen(ADDRESS, (connection) => server.accept(connection));
    const second = new RawPeer(await network.connect(ADDRESS, { timeoutMs: 1 }));
    await settle();
    expect(second.isClosed).toBe(true);
    expect(faults.map(({ code }) => code)).toEqual(['too-many-connections']);
  });
});

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

  it('a read of zeroes and data comes as hole and data when structured, as one chunk with DF', async () => {
    const { peer } = await transmit('structured');
    peer.send(request(1, 1, 65_536, 512, 0, Buffer.alloc(512, 7)));
    peer.send(request(0, 2, 65_024, 1024), request(0, 3, 65_024, 1024, 4));
    await settle();
    const answer = peer.take().subarray(16);
    // OFFSET_HOLE, then OFFSET_DATA with DONE.
    expect([answer.readUInt16BE(4), answer.readUInt16BE(6), answer.readUInt32BE(28)]).toEqual([0, 2, 512]);
    const second = answer.subarray(32);
    expect([second.readUInt16BE(4), second.readUInt16BE(6), second.readUInt32BE(16)]).toEqual([1, 1, 520]);
    expect(second.subarray(28, 540).equals(Buffer.alloc(512, 7))).toBe(true);
    const third = second.subarray(540);
    expect([third.readUInt16BE(4), third.readUInt16BE(6), third.readUInt32BE(16)]).toEqual([1, 1, 1032]);
    expect(third.length).toBe(28 + 1024);
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
