/** The door of the hub: what the commands, the simulator and tests start. */
export { type Catalogue, noCatalogue } from './catalogue/catalogue.js';
export { openSqliteCatalogue, type SqliteCatalogueOptions } from './catalogue/sqlite-catalogue.js';
export { agentTimeText, type GroupStatus, type TestStatus } from './group/group-status.js';
export { Group } from './group/group.js';
export type { OpenStore } from './group/surroundings.js';
export { type HubEvent } from './events/events.js';
export { Hub, type HubOptions } from './hub/hub.js';
export { HubServer, type HubServerOptions } from './hub/hub-server.js';
export { httpApp, type AppOptions } from './http/app.js';
export { hubMetrics } from './http/metrics.js';
export { openGroupStore } from './storage/index.js';
export { SOFTWARE, VERSION } from './version.js';
