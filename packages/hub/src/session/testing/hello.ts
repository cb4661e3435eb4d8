/** What an agent says of itself at first, for tests of whoever hears it. */
import type { Hello } from '@rephub/protocol';

export const AGENT = '00000000-0000-4000-8000-00000000000a';
export const OTHER_AGENT = '00000000-0000-4000-8000-00000000000b';
export const NONCE = '00000000-0000-4000-8000-000000000001';
export const OTHER_NONCE = '00000000-0000-4000-8000-000000000002';
export const LINE = '00000000-0000-4000-8000-00000000000c';

/** Session 5 of an agent that has not been protected yet. */
export function helloOf(parts: Partial<Hello> = {}): Hello {
  return {
    protocol: { min: 1, max: 1 },
    features: [],
    software: 'test',
    group: 'vm1',
    agentId: AGENT,
    session: 5,
    nonce: NONCE,
    line: { id: LINE, parent: null },
    lastNumber: 0,
    restsOn: 0,
    durableNumber: 0,
    window: null,
    tracking: 'new',
    volumes: [{ index: 0, name: 'disk0', sizeBytes: 65_536 }],
    mode: 'async',
    ...parts,
  };
}
