import { Fault } from '@rephub/platform';
import { describe, expect, it } from 'vitest';
import { type BlockDevice, BlockRequest, Command, NbdError } from '../block-device.js';
import { fixedExports } from '../server/exports.js';
import { NbdServer } from '../server/server.js';
import { memoryDevice } from '../memory-device.js';
import { readBytes, trimRange, writeBytes, zeroRange, blockStatus } from '../promised.js';
import { ManualClock, settle } from '../testing/manual-clock.js';
import { connectionPair, memoryNetwork } from '../testing/memory-network.js';
import { optionReply, RawPeer, simpleReply, u16, u32, u64 } from '../testing/raw-peer.js';
import type { NbdClient } from './client.js';
import { connectNbd, type ConnectNbdOptions, exportSize, listExports } from './connect.js';

const URI = 'nbd://here:1/disk';
const GREETING = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(3)]);
const ACK = 1;
const UNSUP = 0x80000001;
const [STRUCTURED, SET_META, GO, LIST] = [8, 10, 7, 3];
const exportInfo = (size: number | bigint, flags = 0x65): Buffer => Buffer.concat([u16(0), u64(size), u16(flags)]);

/** A server that is a list of what it sends, whatever it is told. */
class Script {
  readonly clock = new ManualClock();
  readonly peers: RawPeer[] = [];
  readonly platform: { clock: ManualClock; network: ReturnType<typeof memoryNetwork> };

  constructor(bytes: Buffer, isEnded = false) {
    this.platform = {
      clock: this.clock,
      network: {
        ...memoryNetwork(),
        connect: () => {
          const [near, far] = connectionPair();
          const peer = new RawPeer(far);
          this.peers.push(peer);
          peer.send(bytes);
          if (isEnded) far.end();
          return Promise.resolve(near);
        },
      },
    };
  }

  connect(options: ConnectNbdOptions = {}): Promise<NbdClient> {
    return connectNbd(this.platform, URI, { extendedHeaders: false, ...options });
  }
}

async function faultOf(promise: Promise<unknown>): Promise<Fault | null> {
  try {
    await promise;
    return null;
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

/** The answers of a good server to what our client asks for. */
const GOOD = Buffer.concat([
  GREETING,
  optionReply(STRUCTURED, ACK),
  optionReply(SET_META, 4, u32(1), Buffer.from('base:allocation')),
  optionReply(SET_META, ACK),
  optionReply(GO, 3, exportInfo(1024 * 1024)),
  optionReply(GO, 3, u16(3), u32(512), u32(4096), u32(65_536)),
  optionReply(GO, 3, u16(77), u32(1)),
  optionReply(GO, ACK),
]);

describe('the client meets a server', () => {
  it('and takes what it says', async () => {
    const client = await new Script(GOOD).connect();
    expect(client).toMatchObject({
      sizeBytes: 1024 * 1024,
      exportName: 'disk',
      limits: { minimumBytes: 512, preferredBytes: 4096, maximumBytes: 65_536 },
      abilities: {
        flush: true,
        trim: true,
        writeZeroes: true,
        fua: false,
        readOnly: false,
        contexts: ['base:allocation'],
      },
    });
  });

  it('that has only EXPORT_NAME: falls back', async () => {
    const answer = Buffer.concat([u64(4096), u16(5)]);
    const fixed = Buffer.concat([GREETING, optionReply(STRUCTURED, UNSUP), optionReply(GO, UNSUP), answer]);
    const client = await new Script(fixed).connect();
    expect(client).toMatchObject({ sizeBytes: 4096, abilities: { flush: true, trim: false, contexts: [] } });
    const plain = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), u16(0), answer, Buffer.alloc(124)]);
    const old = await new Script(plain).connect();
    expect(old.sizeBytes).toBe(4096);
  });

  it('that has only EXPORT_NAME and not the export: says unknown', async () => {
    const script = new Script(Buffer.concat([GREETING, optionReply(STRUCTURED, UNSUP), optionReply(GO, UNSUP)]), true);
    expect(await faultOf(script.connect())).toMatchObject({ code: 'export-unknown' });
  });

  it.each([
    ['silence', '', 'link', 'negotiation-timeout'],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2p1 Debian\r\n', 'protocol', 'not-nbd'],
    ['half of NBD', 'NBDMAGICwhatever..', 'protocol', 'not-nbd'],
    ['oldstyle', Buffer.concat([Buffer.from('NBDMAGIC'), u64(0x420281861253n), u64(0)]), 'protocol', 'oldstyle-server'],
    ['a reply to another option', Buffer.concat([GREETING, optionReply(99, ACK)]), 'protocol', 'bad-option-reply'],
    ['a reply without magic', Buffer.concat([GREETING, Buffer.alloc(20)]), 'protocol', 'bad-option-reply'],
    [
      'a reply of 4 GiB',
      Buffer.concat([GREETING, optionReply(STRUCTURED, ACK).fill(0xff, 16, 20)]),
      'protocol',
      'option-reply-too-long',
    ],
    ['TLS only', Buffer.concat([GREETING, optionReply(STRUCTURED, 0x80000005)]), 'config', 'tls-required'],
    [
      'an unknown export',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, ACK),
        optionReply(SET_META, UNSUP),
        optionReply(GO, 0x80000006, Buffer.from('gone')),
      ]),
      'config',
      'export-unknown',
    ],
    [
      'a policy',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, ACK),
        optionReply(SET_META, UNSUP),
        optionReply(GO, 0x80000002),
      ]),
      'config',
      'export-refused',
    ],
    [
      'a shutdown',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, ACK),
        optionReply(SET_META, UNSUP),
        optionReply(GO, 0x80000007),
      ]),
      'link',
      'server-closing',
    ],
    [
      'a shutdown at its first option',
      Buffer.concat([GREETING, optionReply(STRUCTURED, 0x80000007)]),
      'link',
      'server-closing',
    ],
    [
      'no size',
      Buffer.concat([GREETING, optionReply(STRUCTURED, UNSUP), optionReply(GO, ACK)]),
      'protocol',
      'bad-option-reply',
    ],
    [
      'half a size',
      Buffer.concat([GREETING, optionReply(STRUCTURED, UNSUP), optionReply(GO, 3, u16(0), u32(1))]),
      'protocol',
      'bad-option-reply',
    ],
    [
      'a size of 2^64 - 1',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, UNSUP),
        optionReply(GO, 3, exportInfo(0xffff_ffff_ffff_ffffn)),
        optionReply(GO, ACK),
      ]),
      'protocol',
      'size-too-big',
    ],
    [
      'block sizes that are none',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, UNSUP),
        optionReply(GO, 3, u16(3), u32(500), u32(4096), u32(65_536)),
      ]),
      'protocol',
      'bad-option-reply',
    ],
    [
      'block sizes the wrong way round',
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, UNSUP),
        optionReply(GO, 3, u16(3), u32(4096), u32(512), u32(65_536)),
      ]),
      'protocol',
      'bad-option-reply',
    ],
  ])('that answers with %s: a fault that says so', async (_, bytes, kind, code) => {
    const script = new Script(Buffer.from(bytes));
    const fault = faultOf(script.connect({ timeoutMs: 500 }));
    await settle();
    script.clock.advance(500);
    expect(await fault).toMatchObject({ kind, code });
    await settle();
    // Who refuses within the rules is told goodbye, and given a moment to take it.
    const isRefused = kind === 'config' || code === 'server-closing';
    const goodbye = Buffer.concat([Buffer.from('IHAVEOPT'), u32(2), u32(0)]);
    expect(script.peers[0]?.take().subarray(-16).equals(goodbye)).toBe(isRefused);
    expect([script.peers[0]?.isEnded, script.peers[0]?.isClosed]).toEqual([isRefused, !isRefused]);
    script.clock.advance(1000);
    await settle();
    expect(script.peers[0]?.isClosed).toBe(true);
  });

  it('whose largest payload is no multiple of its smallest block: whole blocks are sent', async () => {
    const sizes = optionReply(GO, 3, u16(3), u32(512), u32(4096), u32(100_000));
    const client = await new Script(
      Buffer.concat([
        GREETING,
        optionReply(STRUCTURED, UNSUP),
        optionReply(GO, 3, exportInfo(4096)),
        sizes,
        optionReply(GO, ACK),
      ]),
    ).connect();
    expect(client.limits).toEqual({ minimumBytes: 512, preferredBytes: 4096, maximumBytes: 99_840 });
  });

  it('that ends after any byte of its answers: a fault, never a wait', async () => {
    for (let length = 0; length < GOOD.length; length++) {
      const fault = await faultOf(new Script(GOOD.subarray(0, length), true).connect());
      expect(fault?.code, `cut at ${length}`).toBe('connection-ended');
    }
  });

  it('that stalls after any byte of its answers: a fault within the time limit', async () => {
    for (let length = 0; length < GOOD.length; length += 3) {
      const script = new Script(GOOD.subarray(0, length));
      const fault = faultOf(script.connect({ timeoutMs: 100 }));
      await settle();
      script.clock.advance(100);
      expect((await fault)?.code, `stalled at ${length}`).toBe('negotiation-timeout');
    }
  });

  it('that flips any bit of its answers: a fault or a client, never anything else', async () => {
    for (let bit = 0; bit < GOOD.length * 8; bit += 5) {
      const flipped = Buffer.from(GOOD);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      const script = new Script(flipped);
      const outcome = faultOf(script.connect({ timeoutMs: 100 }));
      await settle();
      script.clock.advance(100);
      await outcome;
    }
  });

  it('and lists its exports', async () => {
    const bytes = Buffer.concat([
      GREETING,
      optionReply(LIST, 2, u32(4), Buffer.from('disk')),
      optionReply(LIST, 2, u32(1), Buffer.from('xhow nice')),
      optionReply(LIST, ACK),
    ]);
    expect(await listExports(new Script(bytes).platform, URI)).toEqual([
      { name: 'disk', description: '' },
      { name: 'x', description: 'how nice' },
    ]);
    const lie = Buffer.concat([GREETING, optionReply(LIST, 2, u32(5), Buffer.from('disk'))]);
    expect(await faultOf(listExports(new Script(lie).platform, URI))).toMatchObject({ code: 'bad-option-reply' });
    const policy = Buffer.concat([GREETING, optionReply(LIST, 0x80000002, Buffer.from('no'))]);
    expect(await faultOf(listExports(new Script(policy).platform, URI))).toMatchObject({ code: 'list-refused' });
  });

  it('asks for the size alone, says goodbye, and believes only what the specification allows', async () => {
    const INFO = 6;
    const told = Buffer.concat([
      GREETING,
      optionReply(INFO, 3, u16(3), u32(1), u32(4096), u32(1 << 25)),
      optionReply(INFO, 3, exportInfo(5 << 20)),
      optionReply(INFO, ACK),
    ]);
    const script = new Script(told);
    expect(await exportSize(script.platform, URI)).toBe(5 << 20);
    await settle();
    const sent = script.peers[0]?.take() ?? Buffer.alloc(0);
    expect(sent.readUInt32BE(4 + 8)).toBe(INFO);
    expect(sent.readUInt32BE(sent.length - 8)).toBe(2);
    const lies: [string, Buffer][] = [
      ['info-refused', optionReply(INFO, UNSUP)],
      ['info-refused', Buffer.concat([optionReply(INFO, 3, exportInfo(0)), optionReply(INFO, ACK)])],
      ['bad-option-reply', optionReply(INFO, ACK)],
      ['bad-option-reply', optionReply(INFO, 3, u16(0), u32(1))],
      ['bad-option-reply', optionReply(INFO, 2, u32(1))],
    ];
    for (const [code, lie] of lies) {
      const faulty = new Script(Buffer.concat([GREETING, lie]));
      expect(await faultOf(exportSize(faulty.platform, URI))).toMatchObject({ code });
    }
    const silent = new Script(GREETING);
    const asking = faultOf(exportSize(silent.platform, URI, 500));
    await settle();
    silent.clock.advance(500);
    expect(await asking).toMatchObject({ code: 'negotiation-timeout' });
  });

  it('can be given up', async () => {
    const gone = new AbortController();
    const script = new Script(Buffer.alloc(0));
    const fault = faultOf(script.connect({ signal: gone.signal }));
    await settle();
    gone.abort();
    expect(await fault).toMatchObject({ code: 'connect-aborted', retryable: false });
  });
});

describe('the client in transmission', () => {
  it('sends headers and payload as the specification has them', async () => {
    const script = new Script(GOOD);
    const client = await script.connect();
    await settle();
    script.peers[0]?.take();
    const written = writeBytes(client, 4096, Buffer.from('abc'));
    await settle();
    const sent = script.peers[0]?.take() ?? Buffer.alloc(0);
    expect(sent.length).toBe(31);
    expect([sent.readUInt32BE(0), sent.readUInt32BE(4), sent.readUInt32BE(24)]).toEqual([0x25609513, 1, 3]);
    expect([sent.readBigUInt64BE(16), sent.subarray(28).toString()]).toEqual([4096n, 'abc']);
    script.peers[0]?.send(simpleReply(sent.readBigUInt64BE(8)));
    await written;
    const closed = client.close();
    await settle();
    expect(script.peers[0]?.take().readUInt16BE(6)).toBe(2);
    script.peers[0]?.connection.end();
    await closed;
    expect(client.fault).toBe(null);
  });

  it.each([
    ['a wrong cookie', simpleReply(0xdead_beef_dead_beefn), 'wrong-cookie'],
    ['a bad magic', Buffer.from('NBDMAGICIHAVEOPT'), 'bad-reply-magic'],
  ])('%s makes the connection dead, and what is in flight is handed over', async (_, lie, code) => {
    const script = new Script(GOOD);
    const faults: string[] = [];
    let taken: BlockRequest[] = [];
    const client = await script.connect({
      lost: (fault) => {
        faults.push(fault.code);
        taken = client.takeUnfinished();
      },
    });
    const request = new BlockRequest({ completed: () => faults.push('completed') });
    request.length = 512;
    client.submit(request);
    script.peers[0]?.send(lie);
    await settle();
    expect(faults).toEqual([code]);
    expect(taken).toEqual([request]);
    expect(client.fault?.code).toBe(code);
    await client.close();
  });

  it('a server that ends, or goes away, in the middle of a reply loses the connection', async () => {
    for (const isEnd of [true, false]) {
      const script = new Script(GOOD);
      const faults: string[] = [];
      const client = await script.connect({ lost: (fault) => faults.push(fault.code) });
      const read = readBytes(client, 0, 512).catch((error: unknown) => error);
      script.peers[0]?.send(u32(0x668e33ef));
      await settle();
      if (isEnd) script.peers[0]?.connection.end();
      else script.peers[0]?.connection.destroy();
      expect(await read).toMatchObject({ nbdError: NbdError.Eshutdown });
      expect(faults).toEqual([isEnd ? 'connection-ended' : 'connection-lost']);
    }
  });

  it('what the server does not offer is EINVAL without being sent', async () => {
    const script = new Script(GOOD);
    const client = await script.connect();
    const error = await writeBytes(client, 0, Buffer.alloc(512), true).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ nbdError: NbdError.Einval });
    const status = await blockStatus(client, 0, 512, 'rephub:dirty').catch((thrown: unknown) => thrown);
    expect(status).toMatchObject({ nbdError: NbdError.Einval });
    expect(client.inFlight).toBe(0);
  });

  it.each([true, false])('trims, zeroes and maps beyond 4 GiB, extended headers %s', async (extendedHeaders) => {
    const TIB = 2 ** 40;
    const lengths: number[] = [];
    const memory = memoryDevice(2 * TIB);
    const device: BlockDevice = {
      sizeBytes: memory.sizeBytes,
      abilities: memory.abilities,
      limits: memory.limits,
      close: () => memory.close(),
      submit: (request) => {
        lengths.push(request.length);
        if (request.command === Command.BlockStatus) request.extents = [{ runs: [request.length, 3] }];
        request.complete(request.offset >= TIB && request.length < 1000 ? NbdError.Enospc : 0);
      },
    };
    const platform = { clock: new ManualClock(), network: memoryNetwork() };
    const server = new NbdServer({ platform, exports: fixedExports(new Map([['disk', device]])) });
    await server.listen({ kind: 'tcp', host: 'here', port: 1 });
    const client = await connectNbd(platform, URI, { extendedHeaders });
    await zeroRange(client, 512, 10 * 2 ** 30);
    await trimRange(client, 0, 4 * 2 ** 30);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    expect(total).toBe(14 * 2 ** 30);
    expect(lengths.length).toBe(extendedHeaders ? 2 : 7);
    const { runs } = await blockStatus(client, 0, TIB, 'base:allocation');
    expect(runs).toEqual([extendedHeaders ? TIB : 0xffff_0000, 3]);
    const error = await zeroRange(client, TIB - 4 * 2 ** 30, 4 * 2 ** 30 + 512).catch((thrown: unknown) => thrown);
    expect(error).toEqual(extendedHeaders ? undefined : expect.objectContaining({ nbdError: NbdError.Enospc }));
  });
});
