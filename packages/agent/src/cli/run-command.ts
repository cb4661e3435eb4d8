/** `repagent run`, as the command line knows it. */
import { command } from '@rephub/command';
import { agentConfig, RUN_OPTIONS } from './run-options.js';
import { passedSockets } from './socket-activation.js';

export const runCommand = command({
  name: 'run',
  summary: 'protect a VM: proxy its disks and mirror every write to the hub',
  options: RUN_OPTIONS,
  takesFile: true,
  examples: [
    'repagent run --group vm1 --upstream file:/var/lib/vm1.raw --listen "nbd+unix:///?socket=/run/vm1.sock" --hub tcp://hub:9010 --state /var/lib/repagent/vm1',
  ],
  check: (values) => {
    agentConfig(values, passedSockets(process.env, process.pid).length > 0);
  },
  run: async (values) => {
    // The agent itself, which no other command needs, takes longer to load than they take to answer.
    const { run } = await import('./run.js');
    return await run(values);
  },
});
