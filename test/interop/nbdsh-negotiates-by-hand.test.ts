import { memoryDevice } from '@rephub/nbd';
import { expect, it } from 'vitest';
import { serveNbd } from '../kit/nbd-serve.js';
import { OUTCOME_IN_PYTHON } from '../kit/nbdsh.js';
import { must } from '../kit/process.js';
import { testScope } from '../kit/test-scope.js';

const SCRIPT = `${OUTCOME_IN_PYTHON}
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(os.environ["SOCKET"])

def contexts(*queries):
    seen = []
    h.clear_meta_contexts()
    for query in queries:
        h.add_meta_context(query)
    h.opt_list_meta_context(seen.append)
    return ",".join(seen)

names = []
h.opt_list(lambda name, text: names.append(name))
print("names|" + ",".join(names))
h.set_export_name("none")
print("info of none|" + code(h.opt_info))
print("go to none|" + code(h.opt_go))
h.set_export_name("disk")
print("info|" + code(h.opt_info), h.get_size())
print("all|" + contexts())
print("base|" + contexts("base:"))
print("rephub|" + contexts("rephub:"))
print("unknown|" + contexts("x-mine:", "base:none"))
print("several|" + contexts("x:y", "rephub:dirty", "base:allocation"))
h.set_export_name("other")
print("other|" + code(h.opt_info), h.get_size())
h.set_export_name("disk")
h.clear_meta_contexts()
h.add_meta_context("base:")
h.add_meta_context("rephub:dirty")
print("go|" + code(h.opt_go))
print("selected|", h.can_meta_context("base:allocation"), h.can_meta_context("rephub:dirty"))
print("structured|", h.get_structured_replies_negotiated())
h.shutdown()
g = nbd.NBD()
g.set_opt_mode(True)
g.connect_unix(os.environ["SOCKET"])
g.opt_abort()
print("aborted|", g.aio_is_closed())
`;

it('nbdsh negotiates option by option: refusals leave the connection usable, wildcards list and select nothing', async () => {
  const disk = memoryDevice(1024 * 1024, { abilities: { contexts: ['base:allocation', 'rephub:dirty', 'rephub:x'] } });
  const other = memoryDevice(4096);
  const { address, faults, server } = await serveNbd(testScope(), { disk, other });
  if (address.kind !== 'unix') throw new Error('unreachable: a Unix socket is the default');
  const said = await must('/usr/bin/python3', ['-c', SCRIPT], { env: { SOCKET: address.path } });
  const lines = said
    .trim()
    .split('\n')
    .map((line) => line.split('|', 2) as [string, string]);
  expect(Object.fromEntries(lines)).toEqual({
    names: 'disk,other',
    'info of none': 'ENOENT',
    'go to none': 'ENOENT',
    info: 'ok 1048576',
    all: 'base:allocation,rephub:dirty,rephub:x',
    base: 'base:allocation',
    rephub: 'rephub:dirty,rephub:x',
    unknown: '',
    several: 'base:allocation,rephub:dirty',
    other: 'ok 4096',
    go: 'ok',
    selected: ' False True',
    structured: ' True',
    aborted: ' True',
  });
  await expect.poll(() => server.clients()).toEqual([]);
  expect(faults).toEqual([]);
});
