/**
 * Requests as promises, for everything that is not the hot path: tests, resync, checks, tools. Offsets and lengths are bytes.
 * Each rejects with a DeviceError when the device answers with an error.
 */
import { BlockRequest, type BlockDevice, Command, CommandFlag, type StatusExtents } from './block-device.js';

/** A device answered with an error; `nbdError` is the NbdError. */
export class DeviceError extends Error {
  readonly nbdError: number;

  constructor(command: string, offset: number, length: number, nbdError: number) {
    super(`${command} of ${length} bytes at ${offset} failed with NBD error ${nbdError}`);
    this.name = 'DeviceError';
    this.nbdError = nbdError;
  }
}

function run(device: BlockDevice, name: string, fill: (request: BlockRequest) => void): Promise<BlockRequest> {
  return new Promise((resolve, reject) => {
    const request = new BlockRequest({
      completed(done) {
        if (done.error === 0) resolve(done);
        else reject(new DeviceError(name, done.offset, done.length, done.error));
      },
    });
    fill(request);
    device.submit(request);
  });
}

/** The slices, `length` bytes in all; runs known to be zero may be slices of ZEROES. */
export async function readSlices(device: BlockDevice, offset: number, length: number): Promise<Buffer[]> {
  if (length === 0) return [];
  const done = await run(device, 'read', (request) => {
    request.command = Command.Read;
    request.offset = offset;
    request.length = length;
  });
  return done.data;
}

/** The bytes in one buffer of their own. */
export async function readBytes(device: BlockDevice, offset: number, length: number): Promise<Buffer> {
  return Buffer.concat(await readSlices(device, offset, length), length);
}

/** With `fua` it is on stable storage when this resolves. */
export async function writeBytes(device: BlockDevice, offset: number, bytes: Buffer, fua = false): Promise<void> {
  if (bytes.length === 0) return;
  await run(device, 'write', (request) => {
    request.command = Command.Write;
    request.flags = fua ? CommandFlag.Fua : 0;
    request.offset = offset;
    request.length = bytes.length;
    request.data = [bytes];
  });
}

/** All that was completed before the call is on stable storage when this resolves. */
export async function flushDevice(device: BlockDevice): Promise<void> {
  await run(device, 'flush', (request) => {
    request.command = Command.Flush;
  });
}

/** `flags` are CommandFlag bits. */
export async function zeroRange(device: BlockDevice, offset: number, length: number, flags = 0): Promise<void> {
  if (length === 0) return;
  await run(device, 'write-zeroes', (request) => {
    request.command = Command.WriteZeroes;
    request.flags = flags;
    request.offset = offset;
    request.length = length;
  });
}

/** What is read there afterwards is the device's affair. */
export async function trimRange(device: BlockDevice, offset: number, length: number): Promise<void> {
  if (length === 0) return;
  await run(device, 'trim', (request) => {
    request.command = Command.Trim;
    request.offset = offset;
    request.length = length;
  });
}

/** Runs of one context from `offset` on; may stop short of the range's end. `flags`: 0 or CommandFlag.RequestOne. */
export async function blockStatus(
  device: BlockDevice,
  offset: number,
  length: number,
  context: string,
  flags = 0,
): Promise<StatusExtents> {
  const done = await run(device, 'block-status', (request) => {
    request.command = Command.BlockStatus;
    request.flags = flags;
    request.contexts = [context];
    request.offset = offset;
    request.length = length;
  });
  const extents = done.extents[0];
  if (extents === undefined) throw new DeviceError('block-status', offset, length, 5);
  return extents;
}
