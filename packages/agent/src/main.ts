#!/usr/bin/env node
/** The `repagent` command. */
import { runMain } from '@rephub/command';
import { modeCommand, pauseCommand, resumeCommand, resyncCommand, statusCommand } from './cli/control-commands.js';
import { runCommand } from './cli/run-command.js';
import { verifyCommand } from './cli/verify-command.js';
import { VERSION } from './version.js';

await runMain({
  name: 'repagent',
  version: VERSION,
  summary: "mirrors a VM's disks to a recovery hub while it runs",
  environmentPrefix: 'REPAGENT',
  commands: [runCommand, statusCommand, pauseCommand, resumeCommand, modeCommand, resyncCommand, verifyCommand],
});
