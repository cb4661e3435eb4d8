import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { OUTCOME_IN_PYTHON } from '../kit/nbdsh.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const SCRIPT = `${OUTCOME_IN_PYTHON}
h = nbd.NBD()
h.set_strict_mode(0)
h.add_meta_context("base:allocation")
h.connect_uri(os.environ["URI"])
size = h.get_size()

def status(offset, length, flags=0):
    seen = []
    h.block_status(length, offset, lambda c, o, e, err: seen.append(e) or 0, flags)
    return seen

print("read beyond", code(lambda: h.pread(512, size - 1)))
print("write beyond", code(lambda: h.pwrite(bytes(512), size - 1)))
print("zero beyond", code(lambda: h.zero(512, size)))
print("trim beyond", code(lambda: h.trim(512, size)))
print("status beyond", code(lambda: status(size, 512)))
print("read zero", code(lambda: h.pread(0, 0)))
print("write zero", code(lambda: h.pwrite(b"", 0)))
print("zero zero", code(lambda: h.zero(0, 0)))
print("trim zero", code(lambda: h.trim(0, 0)))
print("cache", code(lambda: h.cache(size, 0)))
print("unknown flag", code(lambda: h.trim(512, 0, 1 << 9)))
print("read fua", code(lambda: h.pread(512, 0, nbd.CMD_FLAG_FUA)))
print("trim fua", code(lambda: h.trim(512, 0, nbd.CMD_FLAG_FUA)))
print("fast zero", code(lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)))
print("read df", code(lambda: h.pread(200000, 0, nbd.CMD_FLAG_DF)))
h.pwrite(bytes([7]) * 512, size // 2)
print("req one", [len(e) for e in status(0, size, nbd.CMD_FLAG_REQ_ONE)], status(0, 1000, nbd.CMD_FLAG_REQ_ONE))
print("many", len(status(0, size)[0]) > 2)
print("alive", h.pread(1, size // 2))
h.shutdown()
`;

it('nbdsh: whatever is asked wrongly is answered with its error and the connection goes on', async () => {
  const { uri, faults, server } = await serveNbd(testScope(), { disk: memoryDevice(1024 * 1024) });
  const said = await must('/usr/bin/python3', ['-c', SCRIPT], { env: { URI: uri('disk') } });
  expect(Object.fromEntries(said.trim().split('\n').map(splitLine))).toEqual({
    'read beyond': 'EINVAL',
    'write beyond': 'ENOSPC',
    'zero beyond': 'ENOSPC',
    'trim beyond': 'EINVAL',
    'status beyond': 'EINVAL',
    'read zero': 'ok',
    'write zero': 'ok',
    'zero zero': 'ok',
    'trim zero': 'ok',
    cache: 'ok',
    'unknown flag': 'EINVAL',
    'read fua': 'ok',
    'trim fua': 'ok',
    'fast zero': 'ok',
    'read df': 'ok',
    'req one': '[2] [[1000, 2]]',
    many: 'True',
    alive: "bytearray(b'\\x07')",
  });
  await expect.poll(() => server.clients()).toEqual([]);
  expect(faults).toEqual([]);
});

const KEYS =
  /^(read beyond|write beyond|zero beyond|trim beyond|status beyond|read zero|write zero|zero zero|trim zero|cache|unknown flag|read fua|trim fua|fast zero|read df|req one|many|alive) (.*)$/;

function splitLine(line: string): [string, string] {
  const match = KEYS.exec(line);
  return [match?.[1] ?? line, match?.[2] ?? ''];
}
