import { describe, expect, it } from 'vitest';
import { NbdError } from '../block-device.js';
import { memoryDevice } from '../memory-device.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { memoryNetwork } from '../testing/memory-network.js';
import { counted, option, optionReplies, RawPeer, request, u16, u32 } from '../testing/raw-peer.js';
import { ADDRESS, Directory, infoOption, meet, metaOption, SIZE } from '../testing/server-meeting.js';
import type { ExportDirectory, OpenExport } from './exports.js';
import type { ServerFault } from './limits.js';
import { NbdServer } from './server.js';

const [EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED] = [
  1, 2, 3, 5, 6, 7, 8, 9, 10, 11,
];
const [ACK, SERVER, REP_INFO, META] = [1, 2, 3, 4];
const [UNSUP, POLICY, INVALID, UNKNOWN, SHUTDOWN, TOO_BIG, EXT_REQD] = [1, 2, 3, 6, 7, 9, 10].map(
  (code) => 0x80000000 + code,
);

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
    expect((await ask(infoOption(INFO, 'disk'))).map(({ type }) => type)).toEqual([REP_INFO, REP_INFO, ACK]);
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
    expect((await ask(infoOption(GO, 'disk'))).map(({ type }) => type)).toEqual([REP_INFO, REP_INFO, ACK]);
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
    expect((await ask(infoOption(GO, 'disk'))).map((reply) => reply.type)).toEqual([REP_INFO, REP_INFO, ACK]);
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

  it('unusual block sizes are told also to those who do not ask, usual ones only to those who do', async () => {
    const { ask, directory } = await meet();
    const told = async (...infos: readonly number[]): Promise<number[]> =>
      (await ask(infoOption(INFO, 'disk', ...infos))).slice(0, -1).map(({ data }) => data.readUInt16BE(0));
    expect(await told()).toEqual([0, 3]);
    directory.device = memoryDevice(SIZE);
    expect(await told()).toEqual([0, 3]);
    await ask(infoOption(INFO, 'none'));
    expect(await told()).toEqual([0]);
    expect(await told(3)).toEqual([0, 3]);
  });

  it('INFO and GO after it tell the same', async () => {
    const { ask } = await meet();
    await ask(option(EXTENDED), metaOption(SET_META, 'disk', 'base:allocation'));
    const info = await ask(infoOption(INFO, 'disk', 1, 2, 3));
    const go = await ask(infoOption(GO, 'disk', 1, 2, 3));
    expect(go.map(({ type, data }) => [type, data])).toEqual(info.map(({ type, data }) => [type, data]));
  });

  it('a filter for block status is offered only with extended headers and contexts for that export', async () => {
    const { ask } = await meet();
    const isOffered = async (): Promise<boolean> =>
      (((await ask(infoOption(INFO, 'disk')))[0]?.data.readUInt16BE(10) ?? 0) & 0x1000) !== 0;
    await ask(option(STRUCTURED), metaOption(SET_META, 'disk', 'base:allocation'));
    expect(await isOffered()).toBe(false);
    await ask(option(EXTENDED));
    expect(await isOffered()).toBe(true);
    await ask(metaOption(SET_META, 'disk', 'x:y'));
    expect(await isOffered()).toBe(false);
    await ask(metaOption(SET_META, '', 'base:allocation'));
    expect(await isOffered()).toBe(false);
  });

  it("a text for people is at most 4096 bytes, whole characters, however long the client's own name was", async () => {
    const { ask } = await meet();
    const [reply] = await ask(infoOption(GO, 'ü'.repeat(2048)));
    expect(reply?.type).toBe(UNKNOWN);
    const { data = Buffer.alloc(0) } = reply ?? {};
    expect(data.length).toBeLessThanOrEqual(4096);
    expect(data.length).toBeGreaterThan(4090);
    expect(data.toString()).not.toContain('\ufffd');
    const [nul] = await ask(infoOption(GO, 'a\0b'));
    expect(nul?.data.toString()).toBe('no a b');
  });

  it('a second selection replaces the first', async () => {
    const { ask, peer } = await meet();
    await ask(option(STRUCTURED), metaOption(SET_META, 'disk', 'base:allocation', 'rephub:dirty'));
    await ask(metaOption(SET_META, 'disk', 'rephub:dirty'), infoOption(GO, 'disk'));
    peer.send(request(7, 5, 0, 512));
    await settle();
    const reply = peer.take();
    // One chunk, the last, of context 1.
    expect([reply.readUInt16BE(4), reply.readUInt16BE(6), reply.readUInt32BE(20), reply.length]).toEqual([1, 5, 1, 32]);
  });

  it('a selection too long to be read takes the one before away', async () => {
    const { ask, peer } = await meet();
    await ask(option(STRUCTURED), metaOption(SET_META, 'disk', 'base:allocation'));
    expect(await ask(option(SET_META, Buffer.alloc(70_000)))).toMatchObject([{ type: TOO_BIG }]);
    await ask(infoOption(GO, 'disk'));
    peer.send(request(7, 5, 0, 512));
    await settle();
    expect(peer.take().readUInt32BE(20)).toBe(NbdError.Einval);
  });

  it('structured replies agreed on before extended headers do no harm, and contexts may be selected with either', async () => {
    const { ask } = await meet();
    expect(await ask(option(STRUCTURED), option(STRUCTURED), option(EXTENDED), option(EXTENDED))).toMatchObject(
      [ACK, ACK, ACK, ACK].map((type) => ({ type })),
    );
    expect(await ask(metaOption(SET_META, 'disk', 'base:allocation'))).toMatchObject([{ type: META }, { type: ACK }]);
  });

  it('a client that does not read what it asks for is not listened to: what is queued for it stays bounded', async () => {
    const { peer, directory, clock, faults } = await meet();
    directory.entries = Array.from({ length: 1000 }, (_, index) => ({
      name: `disk${index}`,
      description: 'x'.repeat(500),
    }));
    peer.connection.pause();
    for (let index = 0; index < 2000; index++) peer.send(option(LIST));
    await settle();
    expect(directory.listed).toBeLessThan(10);
    clock.advance(30_000);
    await settle();
    expect(faults.map(({ code }) => code)).toEqual(['negotiation-timeout']);
  });

  it('a client that reads slowly gets all that it asked for', async () => {
    const { peer, directory } = await meet();
    directory.entries = Array.from({ length: 1000 }, (_, index) => ({
      name: `disk${index}`,
      description: 'x'.repeat(500),
    }));
    peer.connection.pause();
    for (let index = 0; index < 20; index++) peer.send(option(LIST));
    await settle();
    peer.connection.resume();
    await settle();
    await settle();
    expect(optionReplies(peer.take()).filter(({ type }) => type === ACK)).toHaveLength(20);
  });

  it.each([
    ['options without end', 20_000, option(99)],
    ['bytes of options without end', 70, option(99, Buffer.alloc(1024 * 1024))],
  ])('%s are ended and counted', async (_, count, bytes) => {
    const { peer, faults } = await meet();
    for (let index = 0; index < count; index++) {
      peer.send(bytes);
      if (index % 100 === 0) await settle();
    }
    for (let turn = 0; turn < 100 && faults.length === 0; turn++) await settle();
    expect(faults.map(({ code }) => code)).toEqual(['too-many-options']);
    expect(peer.isClosed).toBe(true);
  });

  it('an unknown option is UNSUP however much data it has', async () => {
    const { ask } = await meet();
    expect(await ask(option(99, Buffer.alloc(100_000)))).toMatchObject([{ option: 99, type: UNSUP }]);
  });

  it('ABORT with more data than any option may have is acknowledged all the same', async () => {
    const { ask } = await meet();
    expect(await ask(option(ABORT, Buffer.alloc(100_000)))).toMatchObject([{ type: ACK }]);
  });

  it('a server that closes says so to whoever waits for an answer, and ends', async () => {
    const { peer, directory, server, faults } = await meet();
    let open: () => void = () => undefined;
    directory.gate = new Promise((resolve) => {
      open = resolve;
    });
    peer.send(infoOption(GO, 'disk'));
    await settle();
    const closed = server.close(60_000);
    open();
    await settle();
    expect(optionReplies(peer.take())).toMatchObject([{ option: GO, type: SHUTDOWN }]);
    expect(peer.isEnded).toBe(true);
    peer.connection.end();
    await closed;
    expect([directory.open_, faults]).toEqual([0, []]);
  });

  it('a server that closes ends those who have asked nothing', async () => {
    const { peer, server } = await meet();
    const closed = server.close(60_000);
    await settle();
    expect(peer.isEnded).toBe(true);
    peer.connection.end();
    await closed;
  });
});
