/** repagent as a library: what the simulator and tests start without a process. */
export { AGENT_DEFAULTS, type AgentConfig, type VolumeConfig } from './config.js';
export { AgentGroup } from './group.js';
export { type GroupStatus } from './status/report.js';
export { Standing } from './link/standing.js';
