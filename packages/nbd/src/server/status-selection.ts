/**
 * The payload that a block status request of extended headers may have: for how many bytes, and about which of
 * the negotiated contexts (NBD_FLAG_BLOCK_STATUS_PAYLOAD). Pure.
 */
import { readUint64 } from '../wire/constants.js';

const EFFECT_BYTES = 8;
const ID_BYTES = 4;

export interface StatusSelection {
  /** What the request is about; its header told the payload's length. */
  readonly lengthBytes: number;
  readonly contexts: readonly string[];
}

/** True when a payload of so many bytes can name one or more of so many contexts, each once. */
export function isSelectionLength(payloadBytes: number, contexts: number): boolean {
  const ids = (payloadBytes - EFFECT_BYTES) / ID_BYTES;
  return Number.isInteger(ids) && ids >= 1 && ids <= contexts;
}

/** `contexts` have the ids 1, 2, …. Null when an id is unknown or named twice. */
export function parseStatusSelection(payload: Buffer, contexts: readonly string[]): StatusSelection | null {
  if (!isSelectionLength(payload.length, contexts.length)) return null;
  const chosen: string[] = [];
  for (let at = EFFECT_BYTES; at < payload.length; at += ID_BYTES) {
    const context = contexts[payload.readUInt32BE(at) - 1];
    if (context === undefined || chosen.includes(context)) return null;
    chosen.push(context);
  }
  return { lengthBytes: readUint64(payload, 0), contexts: chosen };
}
