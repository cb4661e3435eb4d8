/**
 * Whether a directory without a state of ours may become one. It may hold what people put beside a state; anything else
 * says that another directory was meant, and is named before a file is made in it.
 */
import { ConfigFault, type FileSystem } from '@rephub/platform';
import { HOT_LOG_NAME } from './hot-log.js';
import { IDENTITY_NAME } from './identity-file.js';

/** A hub's data directory has it, and nothing else does. */
const HUB_MARK = 'hub.json';
/** What we leave behind when we die before there is an identity, and what file systems put there. */
const HARMLESS = new Set(['lock', 'numbers', 'lost+found']);
/** Sockets, configuration, logs and their older ones, notes, and the disks themselves. */
const BESIDE =
  /\.(sock|socket|pid|ya?ml|json|conf|cfg|env|toml|md|txt|sh|log(\.\w+)*|raw|img|qcow2|iso|vmdk|vdi|xml|key|pem|crt)$/;

/** Throws a ConfigFault `state-not-ours` for a hub's data directory and for one that holds other people's files. */
export async function refuseForeign(files: FileSystem, directory: string): Promise<void> {
  const names = await files.list(directory);
  if (names.some(isOurs)) return;
  if (names.includes(HUB_MARK)) {
    const said = `${directory} is the data directory of a rephub; the agent's state needs a directory of its own`;
    throw new ConfigFault('state-not-ours', said);
  }
  const foreign = names.filter((name) => !name.startsWith('.') && !HARMLESS.has(name) && !BESIDE.test(name));
  if (foreign.length === 0) return;
  const some = foreign.sort().slice(0, 3).join(', ');
  throw new ConfigFault(
    'state-not-ours',
    `${directory} holds ${some}${foreign.length > 3 ? ', …' : ''} and no state of repagent; give a directory of its own`,
  );
}

/** Also what was set aside, or is being made: an identity that is lost is another matter. */
function isOurs(name: string): boolean {
  return (
    [IDENTITY_NAME, HOT_LOG_NAME].some((own) => name === own || name.startsWith(`${own}.`)) || name.includes('.map')
  );
}
