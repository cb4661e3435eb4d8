/** `rephub serve`, as the command line knows it. */
import { command } from '@rephub/command';
import { checkServe, SERVE_OPTIONS } from './serve-options.js';

export const serveCommand = command({
  name: 'serve',
  summary: 'receive from agents, keep replicas, serve them',
  options: SERVE_OPTIONS,
  takesFile: true,
  examples: ['rephub serve --data /var/lib/rephub', 'rephub serve -c /etc/rephub/rephub.yaml'],
  check: checkServe,
  run: async (values, context) => {
    // The hub itself, which no other command needs, takes longer to load than they take to answer.
    const { serve } = await import('./serve.js');
    return await serve(values, context);
  },
});
