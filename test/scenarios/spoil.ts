/** A replica that is not what the log says: it rots where nobody looks, or somebody writes into it. */
import { type Cluster } from '../sim/cluster.js';

const imageOf = (volume: string): string => `/data/groups/vm1/base/${volume}.raw`;

/** One bit of a base image turns over on the hub's disk. All that was written must be in the image by then; the hub is stopped for it, and started again. */
export async function spoilReplica(cluster: Cluster, volume: string, offsetBytes: number): Promise<void> {
  await cluster.stopHub(true);
  cluster.hubFiles.rot(imageOf(volume), offsetBytes, 4);
  await hubAgain(cluster);
}

/** As somebody does who boots a VM from it while no hub runs. */
export async function writeReplica(
  cluster: Cluster,
  volume: string,
  offsetBytes: number,
  bytes: Buffer,
): Promise<void> {
  await cluster.stopHub(true);
  const change = async (): Promise<void> => {
    const file = await cluster.hubFiles.open(imageOf(volume), 'write');
    await file.write([bytes], offsetBytes);
    await file.sync();
    await file.close();
  };
  await cluster.run(change());
  await hubAgain(cluster);
}

async function hubAgain(cluster: Cluster): Promise<void> {
  await cluster.startHub();
  await cluster.clock.runUntil(() => cluster.agent?.status().agentConnected === true);
}
