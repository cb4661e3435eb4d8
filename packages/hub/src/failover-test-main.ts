#!/usr/bin/env node
/** `failover-test`: proves that a group can be recovered, without touching its protection. */
import { runMain } from '@rephub/command';
import { failoverTestCommand } from './cli/failover-test.js';
import { VERSION } from './version.js';

await runMain({
  name: 'failover-test',
  version: VERSION,
  summary: 'Proves that a group can be recovered, without touching its protection.',
  environmentPrefix: 'REPHUB',
  commands: [failoverTestCommand],
});
