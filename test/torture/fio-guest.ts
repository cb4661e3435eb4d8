/** fio as the other guest, through QEMU, which waits for an agent that comes back: writes, then reads all back and compares. */
import { startLoad } from '../kit/load.js';
import { type Peer, qemuPassThrough } from '../kit/peers.js';
import { type Scope } from '../kit/scope.js';
import { type Violated } from './actors.js';
import { OTHER, OTHER_BYTES, type Stage } from './stage.js';

export class FioGuest {
  writtenBytes = 0;
  runs = 0;
  #stopping = false;
  readonly #running: Promise<void>;

  private constructor(scope: Scope, qemu: Peer, seed: number, violated: Violated) {
    this.#running = this.#run(scope, qemu, seed).catch((error: unknown) => {
      violated(`GUEST: fio: ${error instanceof Error ? error.message : String(error)}`);
    });
  }

  /** Returns when QEMU is connected, which it must be once: from then on it is patient. */
  static async start(scope: Scope, stage: Stage, seed: number, violated: Violated): Promise<FioGuest> {
    const address = { ...stage.agent.address, exportName: OTHER };
    return new FioGuest(scope, await qemuPassThrough(scope, address, { reconnectDelaySeconds: 600 }), seed, violated);
  }

  /** After the run under way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(scope: Scope, qemu: Peer, seed: number): Promise<void> {
    while (!this.#stopping) {
      const running = await startLoad(scope, qemu.uri, {
        blockBytes: this.runs % 3 === 2 ? 65_536 : 4096,
        sizeBytes: 4 * (1 << 20),
        offsetBytes: ((this.runs * 4) << 20) % OTHER_BYTES,
        ratePerSecond: 250,
        verify: true,
        seed: seed + this.runs,
      });
      this.writtenBytes += (await running.finished()).writtenBytes;
      this.runs += 1;
    }
    await qemu.child.stop();
  }
}
