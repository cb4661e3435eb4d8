/** What is said to whoever names a group that is not there: mostly a slip of the fingers, so the names that there are help. */
import { ConfigFault } from '@rephub/platform';

const MOST_NAMED = 10;

export function unknownGroup(name: string, known: readonly string[]): ConfigFault {
  const named = known.slice(0, MOST_NAMED).join(', ');
  const more = known.length > MOST_NAMED ? ` and ${known.length - MOST_NAMED} more` : '';
  const there = known.length === 0 ? 'this hub has no groups yet' : `this hub has ${named}${more}`;
  return new ConfigFault('unknown-group', `there is no group called ${name.slice(0, 100)}; ${there}`);
}
