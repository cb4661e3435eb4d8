/**
 * What a request may be, decided from its header alone: pure, and before any payload is read. The rules
 * are those of the specification's "Request types" and "Error values".
 */
import { type Abilities, Command, CommandFlag, type Limits, NbdError } from '../block-device.js';
import { COMMAND_FLAG_PAYLOAD, type Framing } from '../wire/constants.js';
import { isSelectionLength } from './status-selection.js';

/** The part of an export that decides. */
export interface RequestRules {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly framing: Framing;
  /** How many metadata contexts were negotiated. */
  readonly contexts: number;
}

export interface RequestHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly payloadBytes: number;
}

const KNOWN_ERRORS: ReadonlySet<number> = new Set(Object.values(NbdError));

/**
 * A device's error as a client may be told it: ENOTSUP and EOVERFLOW only where the specification allows them,
 * since clients act on them, and nothing that it does not number.
 */
export function tellableError(command: Command, flags: number, error: number): number {
  if (error === NbdError.Enotsup) {
    return command === Command.WriteZeroes && (flags & CommandFlag.FastZero) !== 0 ? error : NbdError.Einval;
  }
  if (error === NbdError.Eoverflow) return command === Command.Write ? NbdError.Einval : error;
  return KNOWN_ERRORS.has(error) ? error : NbdError.Eio;
}

/** The NbdError of a request that must not reach the device; 0 when it may. Lengths of zero pass. */
export function checkRequest(rules: RequestRules, header: RequestHeader): number {
  const { abilities, framing } = rules;
  const { type } = header;
  let flags = header.flags;
  if (framing === 'extended') {
    const hasPayload = (flags & COMMAND_FLAG_PAYLOAD) !== 0;
    // Block status may have one: which contexts it asks about.
    if (hasPayload !== (type === Command.Write) && type !== Command.BlockStatus) return NbdError.Einval;
    flags &= ~COMMAND_FLAG_PAYLOAD;
  }
  if ((flags & CommandFlag.Fua) !== 0) {
    if (!abilities.fua) return NbdError.Einval;
    flags &= ~CommandFlag.Fua;
  }
  switch (type) {
    case Command.Read:
      if (framing !== 'simple') flags &= ~CommandFlag.DontFragment;
      if (flags !== 0) return NbdError.Einval;
      return checkRange(rules, header, NbdError.Einval) || checkLength(rules, header);
    case Command.Write:
      if (flags !== 0) return NbdError.Einval;
      if (abilities.readOnly) return NbdError.Eperm;
      return checkLength(rules, header) || checkRange(rules, header, NbdError.Enospc);
    case Command.Flush:
      if (flags !== 0 || !abilities.flush || header.offset !== 0 || header.length !== 0) return NbdError.Einval;
      return NbdError.Ok;
    case Command.Trim:
      if (abilities.readOnly) return NbdError.Eperm;
      if (flags !== 0 || !abilities.trim) return NbdError.Einval;
      return checkRange(rules, header, NbdError.Einval);
    case Command.WriteZeroes:
      if (abilities.readOnly) return NbdError.Eperm;
      flags &= ~CommandFlag.NoHole;
      if (abilities.fastZero) flags &= ~CommandFlag.FastZero;
      if (flags !== 0 || !abilities.writeZeroes) return NbdError.Einval;
      return checkRange(rules, header, NbdError.Enospc);
    case Command.Cache:
      if (flags !== 0 || !abilities.cache) return NbdError.Einval;
      return checkRange(rules, header, NbdError.Einval);
    case Command.BlockStatus:
      flags &= ~CommandFlag.RequestOne;
      if (flags !== 0 || rules.contexts === 0 || header.length === 0) return NbdError.Einval;
      // What the payload says is checked once it is there.
      if (header.payloadBytes > 0) {
        return isSelectionLength(header.payloadBytes, rules.contexts) ? NbdError.Ok : NbdError.Einval;
      }
      return checkStatusRange(rules, header.offset, header.length);
    default:
      return NbdError.Einval;
  }
}

/** The NbdError of a block status request about this range. */
export function checkStatusRange(rules: RequestRules, offset: number, length: number): number {
  if (length === 0) return NbdError.Einval;
  return checkRange(rules, { offset, length }, NbdError.Einval);
}

function checkRange(rules: RequestRules, header: Pick<RequestHeader, 'offset' | 'length'>, outside: number): number {
  const { offset, length } = header;
  if (offset > rules.sizeBytes || length > rules.sizeBytes - offset) return outside;
  const minimum = rules.limits.minimumBytes;
  if (minimum > 1 && (offset % minimum !== 0 || length % minimum !== 0)) {
    // A device whose size is no multiple has a last piece that can only be reached so.
    if (offset % minimum !== 0 || offset + length !== rules.sizeBytes) return NbdError.Einval;
  }
  return NbdError.Ok;
}

function checkLength(rules: RequestRules, header: RequestHeader): number {
  return header.length > rules.limits.maximumBytes ? NbdError.Einval : NbdError.Ok;
}
