export {
  type Abilities,
  ALL_ABILITIES,
  ALLOCATION_CONTEXT,
  AllocationFlag,
  type BlockDevice,
  BlockRequest,
  Command,
  CommandFlag,
  type Completion,
  DEFAULT_LIMITS,
  isZeroes,
  type Limits,
  NbdError,
  type StatusExtents,
} from './block-device.js';
export { NbdClient, type NbdClientOptions } from './client/client.js';
export { type ClientPlatform, connectNbd, type ConnectNbdOptions, exportSize, listExports } from './client/connect.js';
export { type FileDeviceOptions, type GrowingDevice, openFileDevice } from './file-device.js';
export { fitLimits } from './fit-limits.js';
export { memoryDevice, type MemoryDeviceOptions } from './memory-device.js';
export {
  blockStatus,
  DeviceError,
  flushDevice,
  readBytes,
  readSlices,
  trimRange,
  writeBytes,
  zeroRange,
} from './promised.js';
export { cutSlices } from './slices.js';
export {
  type ExportDirectory,
  type ExportEntry,
  fixedExports,
  isRefusal,
  type OpenExport,
  type OpenRefusal,
} from './server/exports.js';
export { DEFAULT_SERVER_LIMITS, type ServerFault, type ServerFaultCode, type ServerLimits } from './server/limits.js';
export { NbdServer, type NbdServerOptions, type ServedClient } from './server/server.js';
export {
  type DeviceUri,
  exportUri,
  type FileUri,
  formatDeviceUri,
  type NbdUri,
  parseDeviceUri,
  parseListenUri,
  parseNbdUri,
} from './uri.js';
export { appendZeroes, ZEROES } from './zeroes.js';
