/** Another agent comes for the same group, with a disk of its own: it must be refused, and the first one kept (LINEAGE). */
import { AGENT_DEFAULTS, AgentGroup } from '@rephub/agent';
import { asError, silentLogger, sleep } from '@rephub/platform';
import { SimFiles, type SeededRandomness, simPlatform, SimProcess } from '@rephub/platform/sim';
import { type World } from './world.js';

const SIZE_BYTES = 1024 * 1024;
const STAY_MS = 2_500;

export async function meetForeignAgent(world: World, random: SeededRandomness, met: () => void): Promise<void> {
  const { clock, network, excuses } = world;
  const owner = world.store?.state.owner?.agentId ?? null;
  // Whoever comes first after an enrolment is let in, and a stranger is as good as any.
  if (owner === null || owner === world.enrolledAfter || world.stranger !== null) return;
  const begunAnew = excuses.groupBegunAnew + excuses.hubCameBackOlder;
  const files = new SimFiles({ clock });
  const host = simPlatform(random.below(2 ** 31), { clock, network, files });
  const process = new SimProcess(host);
  world.stranger = process;
  try {
    const disk = await files.open('/other.raw', 'create');
    await disk.truncate(SIZE_BYTES);
    await disk.sync();
    const agent = await AgentGroup.open(
      process.platform,
      {
        ...AGENT_DEFAULTS,
        group: 'vm1',
        volumes: [{ name: 'root', upstream: 'file:/other.raw', listen: [] }],
        listen: [`nbd+unix:///?socket=/run/other-${random.below(1_000_000)}.sock`],
        hubs: ['tcp://127.0.0.1:9010'],
        stateDirectory: '/state',
        retries: 0,
      },
      silentLogger,
    );
    await agent.start();
    met();
    await sleep(clock, STAY_MS);
    if (agent.status().hub?.reason?.includes('belongs to agent') === true) world.coverage.row('L3-foreign-agent');
    const now = world.store?.state.owner?.agentId ?? owner;
    const same = begunAnew === excuses.groupBegunAnew + excuses.hubCameBackOlder;
    world.check('LINEAGE', now === owner || !same, () => `agent ${now} has taken the group from ${owner}`);
  } catch (thrown) {
    world.trace.add(`foreign agent: ${asError(thrown).message}`);
  }
  process.kill();
  world.stranger = null;
}
