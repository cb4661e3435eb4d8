import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const SCRIPT = `
import os
import nbd
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(os.environ["URI"])
size = h.get_size()
print(size == 2**46)
far = size - 70000
for offset in (2**32 - 5, 2**40 + 1, far):
    h.pwrite(b"hello world", offset, nbd.CMD_FLAG_FUA)
print([bytes(h.pread(11, offset)) for offset in (2**32 - 5, 2**40 + 1, far)])
h.trim(2**31, 2**32 - 65536 * 2)
print(bytes(h.pread(11, 2**32 - 5)) == bytes(11), bytes(h.pread(11, 2**40 + 1)))
seen = []
h.block_status(2**32 - 65536, 2**40 - 65536, lambda c, o, e, err: seen.append(e) or 0)
print(seen[0][:4], sum(seen[0][::2]) == 2**32 - 65536)
h.shutdown()
`;

it('nbdsh reads, writes, trims and maps far beyond 4 GiB', async () => {
  const { uri, faults } = await serveNbd(testScope(), { disk: memoryDevice(2 ** 46) });
  const said = await must('/usr/bin/python3', ['-c', SCRIPT], { env: { URI: uri('disk') } });
  expect(said.trim().split('\n')).toEqual([
    'True',
    "[b'hello world', b'hello world', b'hello world']",
    "True b'hello world'",
    '[65536, 3, 65536, 0] True',
  ]);
  expect(faults).toEqual([]);
});
