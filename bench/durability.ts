/**
 * What power-cut-safe tracking costs: `--durability host` (marks are synced before the write) against `process`:
 *
 *   npm run bench:durability
 *   npm run bench:durability -- --only 64   the loads whose names hold this
 *
 * Random writes of 4 KiB, over 4 GiB (the first minute warms the hot extents, and is not counted) and over 64 GiB. The
 * disk is a sparse file in memory, page by page: nbdkit's own memory takes 32 KiB for each of such writes. The hub is
 * there; both agents run, one is measured at a time. Medians, and the ratio of the two.
 */
import { parseArgs } from 'node:util';
import { load } from '../test/kit/load.js';
import { nbdkit, sparseFile } from '../test/kit/peers.js';
import { AgentPlace, HubPlace } from '../test/kit/rephub-system.js';
import { Scope } from '../test/kit/scope.js';
import { quiet } from './machine.js';
import { median } from './results.js';

const GiB = 2 ** 30;
const DISK_BYTES = 64 * GiB;
const MEMORY = '/dev/shm';
const LOADS = [
  { name: 'over 4 GiB, depth 32', sizeBytes: 4 * GiB, depth: 32 },
  { name: 'over 4 GiB, depth 1', sizeBytes: 4 * GiB, depth: 1 },
  { name: 'over 64 GiB, depth 32', sizeBytes: DISK_BYTES, depth: 32 },
] as const;
const DURABILITIES = ['host', 'process'] as const;

async function prepared(scope: Scope, durability: string): Promise<{ agent: AgentPlace; pids: readonly number[] }> {
  const upstream = await nbdkit(scope, ['file', await sparseFile(scope, DISK_BYTES, 'disk.raw', MEMORY)]);
  const hub = await HubPlace.prepare(scope);
  await hub.start();
  const agent = await AgentPlace.prepare(scope, {
    volumes: [{ name: 'disk0', upstream: upstream.uri }],
    hubUrl: hub.url,
    args: ['--durability', durability, '--on-congestion', 'block'],
  });
  await agent.start();
  await agent.waitUntilProtected(120_000);
  return { agent, pids: [upstream.child.pid, hub.child.pid, agent.child.pid] };
}

async function main(scope: Scope): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '8' },
      warm: { type: 'string', default: '60' },
      only: { type: 'string', default: '' },
    },
  });
  const [host, inProcess] = [await prepared(scope, 'host'), await prepared(scope, 'process')];
  const subjects = { host: host.agent, process: inProcess.agent };
  const pids = [...host.pids, ...inProcess.pids];
  for (const { name, sizeBytes, depth } of LOADS.filter((each) => each.name.includes(values.only))) {
    const iops: Record<(typeof DURABILITIES)[number], number[]> = { host: [], process: [] };
    const guest = { pattern: 'randwrite', blockBytes: 4096, depth, sizeBytes } as const;
    for (let round = 1; round <= Number(values.rounds); round += 1) {
      for (const durability of DURABILITIES) {
        const uri = subjects[durability].uri();
        await quiet(pids);
        if (round === 1 && sizeBytes < DISK_BYTES) await load(uri, { ...guest, seconds: Number(values.warm) });
        const { writeIops } = await load(uri, { ...guest, seconds: Number(values.seconds), seed: round });
        iops[durability].push(writeIops);
      }
    }
    const [safe, fast] = [median(iops.host), median(iops.process)];
    console.log(`${name}: host ${safe.toFixed(0)} IOPS, process ${fast.toFixed(0)}: ${(safe / fast).toFixed(2)}x`);
  }
}

const scope = new Scope();
try {
  await main(scope);
} finally {
  await scope.close();
}
