/** How the commands ask a running agent: through the control socket in its state directory. */
import { askJson, path, required } from '@rephub/command';
import { join } from 'node:path';
import { type AgentStatus } from '../status/report.js';
import { CONTROL_SOCKET } from './control-socket.js';

const TIMEOUT_MS = 5_000;

/** The option that every command which asks an agent has. */
export const stateOption = {
  state: required(path(), { placeholder: 'DIR', help: 'the state directory of the running agent' }),
};

/** The agent's answer; what it refuses ends the command with its message. */
export async function askAgent(state: string, method: 'GET' | 'POST', request: string): Promise<unknown> {
  const address = { kind: 'unix', path: join(state, CONTROL_SOCKET) } as const;
  return await askJson({ address, method, path: request, timeoutMs: TIMEOUT_MS });
}

/** Not checked: commands and agent are of one checkout, and what another version leaves out is not shown. */
export async function askStatus(state: string): Promise<AgentStatus> {
  return (await askAgent(state, 'GET', '/status')) as AgentStatus;
}
