/** What is said to whoever names something that is not there: mostly a slip of the fingers, so the names that there are help. */
import { ConfigFault } from '@rephub/platform';

const MOST_NAMED = 10;
const MOST_CHARACTERS = 100;

export function unknownGroup(name: string, known: readonly string[]): ConfigFault {
  const there = known.length === 0 ? 'this hub has no groups yet' : `this hub has ${named(known)}`;
  return new ConfigFault('unknown-group', `there is no group called ${cut(name)}; ${there}`);
}

export function unknownVolume(name: string, known: readonly string[]): ConfigFault {
  const there = known.length === 0 ? 'it has no volumes yet' : `it has ${named(known)}`;
  return new ConfigFault('unknown-volume', `there is no volume called ${cut(name)} in this group; ${there}`);
}

export function unknownTest(group: string, name: string, known: readonly string[]): ConfigFault {
  const there = known.length === 0 ? 'none is open' : `open are ${named(known)}`;
  return new ConfigFault('unknown-test', `group ${group} has no open test called ${cut(name)}; ${there}`);
}

function named(known: readonly string[]): string {
  const more = known.length > MOST_NAMED ? ` and ${known.length - MOST_NAMED} more` : '';
  return `${known.slice(0, MOST_NAMED).join(', ')}${more}`;
}

function cut(name: string): string {
  return name.slice(0, MOST_CHARACTERS);
}
