// A --hub that is the address of something else: said once and plainly, by the log and by status, and tried on.
import { expect, test } from 'vitest';
import { command } from '../kit/commands.js';
import { sparseFile } from '../kit/peers.js';
import { AgentPlace, HubPlace } from '../kit/rephub-system.js';
import { testScope } from '../kit/test-scope.js';
import { waitUntil } from '../kit/wait.js';

const TRIES = 4;

test.for([
  ['--http', 'HTTP', (hub: HubPlace) => hub.httpPort],
  ['--nbd', 'NBD', (hub: HubPlace) => hub.nbdPort],
] as const)('the port of %s of the hub speaks %s', { timeout: 60_000 }, async ([, speaks, portOf]) => {
  const scope = testScope();
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: `file:${await sparseFile(scope, 1 << 20)}` }],
    hubUrl: `tcp://127.0.0.1:${portOf(hub)}`,
    args: ['--log-level', 'debug'],
  });
  await agent.start();
  const triesOf = (): string[] => agent.child.output.split('\n').filter((line) => /not-a-hub|hub-away/.test(line));
  await waitUntil(`${TRIES} tries`, () => Promise.resolve(triesOf().length >= TRIES || undefined), {
    timeoutMs: 30_000,
    intervalMs: 50,
    seen: () => agent.child.output,
  });
  const said = `127.0.0.1:${portOf(hub)} speaks ${speaks}, not as agent and hub do: --hub takes an address of --listen`;
  const [first = '', ...others] = triesOf();
  expect(first).toMatch(/ warn +not-a-hub /);
  expect(first).toContain(said);
  for (const line of others) expect(line).toMatch(/ debug hub-away /);
  const { stdout } = await command('repagent', ['status', '--state', agent.stateDir]);
  expect(stdout).toMatch(new RegExp(`^hub +${said}`, 'm'));
});
