export { type BlockCodec, type CodecName } from './block-codec.js';
export { crc32 } from './checksum.js';
export { type Clock, type Timer, sleep } from './clock.js';
export { CountedSlab, holdBytes, holdSlice, releaseBytes, releaseSlice, SlabPool } from './counted-memory.js';
export {
  asError,
  assert,
  ConfigFault,
  CorruptionFault,
  Fault,
  type FaultKind,
  type FaultOptions,
  LinkFault,
  ProtocolFault,
  StorageFault,
} from './errors.js';
export {
  type FileLock,
  type FileStatus,
  type FileSystem,
  type OpenFile,
  type OpenMode,
  type OpenOptions,
  parentOf,
  readExactly,
  readSmallFile,
  replaceFile,
  replaceSmallFile,
} from './files.js';
export { InTurn } from './in-turn.js';
export {
  type Claimant,
  DEFAULT_PAYLOAD_LIMITS,
  PayloadBudget,
  type PayloadClaim,
  type PayloadLimits,
} from './payload-budget.js';
export { plainReason } from './plain-reason.js';
export { type LogFields, type Logger, silentLogger } from './logger.js';
export { NAME_PATTERN, NAME_RULE } from './names.js';
export {
  type Address,
  type Connection,
  type ConnectOptions,
  formatAddress,
  isLocalAddress,
  type Listener,
  listeningFor,
  MAX_SOCKET_PATH_BYTES,
  type Network,
  type ReceiveOptions,
  type Receiver,
  SMALL_CHUNK_BYTES,
} from './network.js';
export type { Platform } from './platform.js';
export { type Randomness } from './randomness.js';
export { randomUuid, UUID_PATTERN, uuidBytes, uuidText } from './uuid.js';
