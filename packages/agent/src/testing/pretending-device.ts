/**
 * A disk behind a cache like Linux's: a flush that fails drops what it should have stored, readers go on seeing it, and no
 * later flush stores it. `stable` is what a power cut would leave.
 */
import { BlockRequest, Command, readBytes } from '@rephub/nbd';
import { ScriptedDevice } from './scripted-device.js';

export class PretendingDevice extends ScriptedDevice {
  readonly stable: Buffer;
  #unflushed: { readonly offset: number; readonly length: number }[] = [];

  constructor(sizeBytes: number) {
    super(sizeBytes);
    this.stable = Buffer.alloc(sizeBytes);
  }

  override submit(request: BlockRequest): void {
    const { command, offset, length } = request;
    const inner = new BlockRequest({
      completed: (done) => {
        request.data = done.data;
        request.extents = done.extents;
        void this.#done(command, offset, length, done.error).then(() => request.complete(done.error));
      },
    });
    inner.command = command;
    inner.flags = request.flags;
    inner.offset = offset;
    inner.length = length;
    inner.data = request.data;
    inner.contexts = request.contexts;
    super.submit(inner);
  }

  async #done(command: Command, offset: number, length: number, error: number): Promise<void> {
    const isChange = command === Command.Write || command === Command.WriteZeroes || command === Command.Trim;
    // One that failed has done part of its work, or all of it.
    if (isChange) this.#unflushed.push({ offset, length });
    if (command !== Command.Flush) return;
    const covered = this.#unflushed;
    this.#unflushed = [];
    if (error !== 0) return;
    for (const range of covered) (await this.#seen(range.offset, range.length)).copy(this.stable, range.offset);
  }

  #seen(offset: number, length: number): Promise<Buffer> {
    return readBytes({ ...this.#plain(), submit: (request) => super.submit(request) }, offset, length);
  }

  #plain(): Pick<ScriptedDevice, 'abilities' | 'limits' | 'sizeBytes'> & { close: () => Promise<void> } {
    return {
      abilities: this.abilities,
      limits: this.limits,
      sizeBytes: this.sizeBytes,
      close: () => Promise.resolve(),
    };
  }
}
