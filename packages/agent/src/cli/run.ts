/** `repagent run` once its options are read: opens the group, serves it until a signal, stops in order. */
import { lockState } from '@rephub/bitmap';
import { CommandFailure, EXIT, type ExitCode, openLogger } from '@rephub/command';
import { asError, ConfigFault, Fault, formatAddress, type Logger } from '@rephub/platform';
import { adoptListener, BusyPoll, nodePlatform } from '@rephub/platform/node';
import { type Server } from 'node:http';
import { join } from 'node:path';
import { AgentGroup } from '../group.js';
import { Starting } from '../starting.js';
import { serveControl, serveHttp } from './control-server.js';
import { CONTROL_SOCKET } from './control-socket.js';
import { agentConfig, type RunValues } from './run-options.js';
import { passedSockets } from './socket-activation.js';

/** About what a thread takes to fall asleep and be woken again. */
const PROXY_POLL_MS = 0.05;

/** Serves until SIGTERM or SIGINT. */
export async function run(values: RunValues): Promise<ExitCode> {
  const sockets = passedSockets(process.env, process.pid);
  const config = agentConfig(values, sockets.length > 0);
  const log = await openLogger(values);
  process.on('SIGHUP', () => {
    log.reopen();
  });
  const servers: Server[] = [];
  await makeStateDirectory(config.stateDirectory);
  const busyPoll = new BusyPoll(values.busyPoll ?? (config.hubs.length > 0 ? 0 : PROXY_POLL_MS));
  const platform = nodePlatform({ busyPoll });
  const starting = new Starting(platform.clock, config);
  const agent: { starting: Starting; group: AgentGroup | null } = { starting, group: null };
  const closeServers = (): void => {
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  };
  const asked = untilSignal(() => {
    // While upstream is awaited nothing is held that would have to be let go in order.
    if (!starting.isWaiting) return;
    closeServers();
    log.info('stopped', { clean: true });
    log.flush();
    process.exit(EXIT.done);
  });
  const lock = await lockState(platform.files, config.stateDirectory);
  try {
    // Before upstream: whoever wonders why the VM has no disk yet can ask.
    servers.push(await serveControl(agent, join(config.stateDirectory, CONTROL_SOCKET)));
    const { http } = values;
    if (http !== undefined) servers.push(await serveHttp(agent, http.host, http.port));
    const group = await AgentGroup.open(platform, config, log, { lock, awaited: starting });
    agent.group = group;
    busyPoll.expectsOne = () => group.requestsInFlight <= 1;
    catchBugs(log, group);
    await group.start(sockets.map((fd) => (accept) => adoptListener(fd, accept, { busyPoll })));
    log.info('ready', {
      group: config.group,
      volumes: config.volumes.map(({ name }) => name).join(' '),
      listen: group.addresses.map((address) => formatAddress(address)).join(' '),
      hub: config.hubs.join(' '),
    });
  } catch (fault) {
    closeServers();
    await agent.group?.stop();
    await lock.release();
    throw fault;
  }
  await asked;
  log.info('stopping');
  closeServers();
  const clean = await agent.group.stop();
  log.info('stopped', { clean });
  log.flush();
  if (!clean) throw new CommandFailure(EXIT.failed, 'upstream could not be flushed; the state was saved unclean');
  return EXIT.done;
}

/** Throws ConfigFault `state-not-made` where trying again would not help. */
async function makeStateDirectory(directory: string): Promise<void> {
  try {
    await nodePlatform().files.makeDirectory(directory);
  } catch (cause) {
    // A disk that is full says nothing against the option.
    if (cause instanceof Fault && cause.retryable) throw cause;
    throw new ConfigFault('state-not-made', `--state: ${asError(cause).message}`, { cause });
  }
}

/** Guests' requests see to their own faults: what nobody has caught is mirroring's. */
function catchBugs(log: Logger, group: AgentGroup): void {
  const bug = (fault: unknown): void => {
    log.error('bug', { fault: fault instanceof Error ? (fault.stack ?? fault.message) : String(fault) });
    group.failMirroring(fault);
  };
  process.on('unhandledRejection', bug).on('uncaughtException', bug);
}

/** SIGTERM or SIGINT: the orderly end. A second one ends the process at once, as a crash would. `first` may end it before. */
async function untilSignal(first: () => void): Promise<void> {
  await new Promise<void>((resolve) => {
    let asked = false;
    const stop = (): void => {
      if (asked) process.exit(EXIT.failed);
      asked = true;
      first();
      resolve();
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
}
