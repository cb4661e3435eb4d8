import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { OUTCOME_IN_PYTHON } from '../kit/nbdsh.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const SCRIPT = `${OUTCOME_IN_PYTHON}
h = nbd.NBD()
h.set_strict_mode(0)
h.set_request_structured_replies(os.environ["STRUCTURED"] == "yes")
h.connect_uri(os.environ["URI"])
M = 1024 * 1024

data = os.urandom(M) * 32
print(code(lambda: h.pwrite(data, 777)), h.pread(32 * M, 777) == data)
print(code(lambda: h.pwrite(data + b"x", 0)), code(lambda: h.pread(32 * M + 1, 0)), h.pread(32 * M, 777) == data)
print(code(lambda: h.zero(60 * M, 0)), h.pread(10, 777) == bytes(10))
h.shutdown()
`;

it.each(['yes', 'no'])(
  'payloads of 32 MiB go both ways, a longer one is refused and the connection goes on (structured: %s)',
  async (structured) => {
    const { uri, faults } = await serveNbd(testScope(), { disk: memoryDevice(64 * 1024 * 1024) });
    const said = await must('/usr/bin/python3', ['-c', SCRIPT], { env: { URI: uri('disk'), STRUCTURED: structured } });
    expect(said).toBe('ok True\nEINVAL EINVAL True\nok True\n');
    expect(faults).toEqual([]);
  },
);
