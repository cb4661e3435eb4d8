/**
 * What a request may be, decided from its header alone: pure, and before any payload is read. The rules
 * are those of the specification's "Request types" and "Error values".
 */
import { type Abilities, Command, CommandFlag, type Limits, NbdError } from '../block-device.js';
import { COMMAND_FLAG_PAYLOAD, type Framing } from '../wire/constants.js';

/** The part of an export that decides. */
export interface RequestRules {
  readonly sizeBytes: number;
  readonly abilities: Abilities;
  readonly limits: Limits;
  readonly framing: Framing;
  /** Block status was negotiated for at least one context. */
  readonly hasContexts: boolean;
}

export interface RequestHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  readonly payloadBytes: number;
}

/** The NbdError of a request that must not reach the device; 0 when it may. Lengths of zero pass. */
export function checkRequest(rules: RequestRules, header: RequestHeader): number {
  const { abilities, framing } = rules;
  const { type } = header;
  let flags = header.flags;
  if (framing === 'extended') {
    const hasPayload = (flags & COMMAND_FLAG_PAYLOAD) !== 0;
    if (hasPayload !== (type === Command.Write)) return NbdError.Einval;
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
      if (flags !== 0 || !rules.hasContexts || header.length === 0) return NbdError.Einval;
      return checkRange(rules, header, NbdError.Einval);
    default:
      return NbdError.Einval;
  }
}

function checkRange(rules: RequestRules, header: RequestHeader, outside: number): number {
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
