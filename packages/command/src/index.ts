/** What the three command lines share. */
export { CommandFailure, describeError, EXIT, type ExitCode, exitCodeOf } from './exit.js';
export { askJson, type JsonRequest, type JsonResponse, refusalExitCode, requestJson } from './http-client.js';
export { flushLoggers, logOptions, type LogSettings, openLogger, type OpenLogger } from './logging.js';
export { runMain } from './run-main.js';
export { nearest } from './nearest.js';
export {
  badValue,
  flag,
  type Option,
  optional,
  type OptionTable,
  repeated,
  required,
  scalar,
  structure,
  type ValuesOf,
  withDefault,
} from './options.js';
export {
  type AnyCommand,
  type ArgumentSpec,
  command,
  type CommandContext,
  type CommandSpec,
  type Output,
  type ProgramSpec,
  runProgram,
  type World,
} from './program.js';
export {
  formatCount,
  formatDuration,
  formatRate,
  formatSize,
  parseCount,
  type Parsed,
  parseDuration,
  parseName,
  parseRate,
  parseSize,
  parseYesNo,
} from './quantities.js';
export { environmentName } from './resolve.js';
export { type Column, formatJson, formatTable, tableWidth } from './table.js';
export {
  address,
  choice,
  count,
  duration,
  type Limits,
  name,
  orWord,
  path,
  rate,
  size,
  text,
  type TextType,
  textType,
  yesNo,
} from './types.js';
