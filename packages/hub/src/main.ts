#!/usr/bin/env node
/** `rephub`: the hub, and the commands that ask it. */
import { runMain } from '@rephub/command';
import { eventsCommand } from './cli/events.js';
import { dropTestCommand, enrollCommand, forgetCommand, resyncCommand } from './cli/operate.js';
import { readCommand } from './cli/read.js';
import { seedCommand } from './cli/seed.js';
import { serveCommand } from './cli/serve-command.js';
import { groupsCommand, statusCommand } from './cli/status.js';
import { verifyCommand } from './cli/verify.js';
import { VERSION } from './version.js';

await runMain({
  name: 'rephub',
  version: VERSION,
  summary: 'Receives what repagent mirrors, keeps replicas of VMs, and serves them.',
  environmentPrefix: 'REPHUB',
  commands: [
    serveCommand,
    statusCommand,
    groupsCommand,
    eventsCommand,
    readCommand,
    resyncCommand,
    seedCommand,
    verifyCommand,
    enrollCommand,
    forgetCommand,
    dropTestCommand,
  ],
});
