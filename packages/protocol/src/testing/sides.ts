/** What both sides say of themselves at first, for tests of what comes of it. */
import type { Hello, HubGroup } from '../messages.js';

export const AGENT = 'aaaaaaaa-0000-4000-8000-000000000001';
export const OTHER_AGENT = 'aaaaaaaa-0000-4000-8000-000000000002';
export const NONCE = 'bbbbbbbb-0000-4000-8000-000000000001';
const OTHER_NONCE = 'bbbbbbbb-0000-4000-8000-000000000002';
export const LINE = 'cccccccc-0000-4000-8000-000000000001';
export const DISK = { index: 0, name: 'disk0', sizeBytes: 1 << 30 };

/** An agent that was started again after a crash at number 100 or above. */
export function agentSide(overrides: Partial<Hello> = {}): Hello {
  return {
    protocol: { min: 1, max: 1 },
    features: [],
    software: 'test',
    group: 'vm1',
    agentId: AGENT,
    session: 7,
    nonce: NONCE,
    line: { id: LINE, parent: null },
    lastNumber: 100,
    restsOn: 80,
    durableNumber: 90,
    window: null,
    tracking: 'marked',
    volumes: [DISK],
    mode: 'async',
    ...overrides,
  };
}

/** A hub that holds all of it and has a consistent point. */
export function hubSide(overrides: Partial<HubGroup> = {}): HubGroup {
  return {
    owner: AGENT,
    ownerSession: 6,
    ownerNonce: OTHER_NONCE,
    line: { id: LINE, parent: null },
    lastNumber: 100,
    lastChecksum: 0xabcd,
    spanOpen: false,
    consistentNumber: 100,
    failedOver: false,
    volumes: [DISK],
    ...overrides,
  };
}
