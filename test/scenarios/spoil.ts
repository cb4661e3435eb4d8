/** A replica that rots where nobody looks: one byte of a base image is changed on the hub's disk. */
import { type Cluster } from '../sim/cluster.js';

/** All that was written must be in the image by then; the hub is stopped for it, and started again. */
export async function spoilReplica(cluster: Cluster, volume: string, offsetBytes: number): Promise<void> {
  await cluster.stopHub(true);
  const path = `/data/groups/vm1/base/${volume}.raw`;
  const change = async (): Promise<void> => {
    const file = await cluster.hubFiles.open(path, 'write');
    const byte = Buffer.alloc(1);
    await file.read(byte, offsetBytes);
    byte[0] = (byte[0] ?? 0) ^ 0x10;
    await file.write([byte], offsetBytes);
    await file.sync();
    await file.close();
  };
  await cluster.run(change());
  await cluster.startHub();
  await cluster.clock.runUntil(() => cluster.agent?.status().agentConnected === true);
}
