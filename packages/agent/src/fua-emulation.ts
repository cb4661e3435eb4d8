/**
 * FUA for an upstream that has flush and no FUA: the request without the flag, then a flush, then the
 * answer (promise FLUSH). Returns the device itself where there is nothing to emulate.
 */
import {
  type Abilities,
  type BlockDevice,
  BlockRequest,
  Command,
  CommandFlag,
  type Completion,
  type Limits,
} from '@rephub/nbd';

export function emulateFua(device: BlockDevice): BlockDevice {
  return device.abilities.fua || !device.abilities.flush ? device : new FuaEmulation(device);
}

class FuaEmulation implements BlockDevice {
  readonly abilities: Abilities;
  readonly #device: BlockDevice;

  constructor(device: BlockDevice) {
    this.#device = device;
    this.abilities = { ...device.abilities, fua: true };
  }

  get sizeBytes(): number {
    return this.#device.sizeBytes;
  }

  get limits(): Limits {
    return this.#device.limits;
  }

  submit(request: BlockRequest): void {
    const isWrite =
      request.command === Command.Write || request.command === Command.WriteZeroes || request.command === Command.Trim;
    if (!isWrite || (request.flags & CommandFlag.Fua) === 0) {
      this.#device.submit(request);
      return;
    }
    new FuaWrite(this.#device, request).go();
  }

  async close(): Promise<void> {
    await this.#device.close();
  }
}

class FuaWrite implements Completion {
  readonly #device: BlockDevice;
  readonly #outer: BlockRequest;
  readonly #inner: BlockRequest;

  constructor(device: BlockDevice, outer: BlockRequest) {
    this.#device = device;
    this.#outer = outer;
    this.#inner = new BlockRequest(this);
  }

  go(): void {
    const inner = this.#inner;
    inner.command = this.#outer.command;
    inner.flags = this.#outer.flags & ~CommandFlag.Fua;
    inner.offset = this.#outer.offset;
    inner.length = this.#outer.length;
    inner.data = this.#outer.data;
    this.#device.submit(inner);
  }

  completed(inner: BlockRequest): void {
    if (inner.error !== 0 || inner.command === Command.Flush) {
      this.#outer.complete(inner.error);
      return;
    }
    inner.reset();
    inner.command = Command.Flush;
    this.#device.submit(inner);
  }
}
