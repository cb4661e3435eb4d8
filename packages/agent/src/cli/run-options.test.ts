import { expect, test } from 'vitest';
import { AGENT_DEFAULTS } from '../config.js';
import { agentConfig, RUN_OPTIONS, type RunValues } from './run-options.js';

const GIVEN: Readonly<Record<string, unknown>> = {
  ...{ group: 'vm1', state: '/state', upstream: 'file:/disk.raw', hub: ['tcp://h:9010'] },
  listen: ['nbd+unix:///?socket=/vm.sock'],
};

test('what is not said is as AGENT_DEFAULTS has it, which the simulator and tests begin with', () => {
  const values = Object.entries(RUN_OPTIONS).map(([name, option]) => [
    name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    option.read(GIVEN[name] ?? option.defaultText, `--${name}`),
  ]);
  expect(agentConfig(Object.fromEntries(values) as RunValues, false)).toMatchObject(AGENT_DEFAULTS);
});
