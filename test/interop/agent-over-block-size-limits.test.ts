// An upstream's block sizes are passed on to the guest, and honoured by what the agent itself reads.
import { expect, it } from 'vitest';
import { nbdkit } from '../kit/peers.js';
import { must } from '../kit/process.js';
import { startSystem } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';

const UNALIGNED = `
import errno, os
import nbd
h = nbd.NBD()
h.set_strict_mode(0)
h.connect_uri(os.environ["URI"])
try:
    h.pwrite(bytes(512), 512)
except nbd.Error as e:
    print(errno.errorcode[e.errnum])
h.shutdown()
`;

it(
  'an agent over an upstream of 4 KiB blocks and 64 KiB payloads mirrors all of it',
  { timeout: 120_000 },
  async () => {
    const scope = testScope();
    const policy = ['minimum=4096', 'preferred=65536', 'maximum=65536'].map((one) => `blocksize-${one}`);
    const upstream = await nbdkit(scope, [
      ...['--filter=blocksize-policy', 'memory', '32M', 'blocksize-error-policy=error'],
      ...policy,
    ]);
    await must('qemu-io', ['-f', 'raw', '-c', 'write -P 0x11 0 5M', '-c', 'write -P 0x22 20M 1M', upstream.uri]);
    const { hub, agent } = await startSystem(scope, upstream.uri);
    const info = JSON.parse(await must('nbdinfo', ['--json', agent.uri()])) as {
      exports: readonly Readonly<Record<string, unknown>>[];
    };
    expect(info.exports[0]).toMatchObject({
      block_size_minimum: 4096,
      block_size_preferred: 65_536,
      block_size_maximum: 65_536,
    });
    await must('qemu-io', [
      '-f',
      'raw',
      '-c',
      'write -P 0x33 10000 100000',
      '-c',
      'read -P 0x33 10000 100000',
      agent.uri(),
    ]);
    const said = await must('/usr/bin/python3', ['-c', UNALIGNED], { env: { URI: agent.uri() } });
    expect(said).toBe('EINVAL\n');
    await agent.waitUntilProtected();
    expect(agent.child.output).not.toContain('upstream-unreadable');
    // nbdcopy asks for more than such an upstream gives.
    const compared = await must('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'raw',
      upstream.uri,
      hub.uri('vm1', 'disk0'),
    ]);
    expect(compared).toContain('identical');
  },
);
