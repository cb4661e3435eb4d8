/** The token of the hub's HTTP, from the environment: the same words for the hub that asks for it and the commands that send it. */
import { ConfigFault } from '@rephub/platform';

/** What a header can carry, as it is: a blank at either end would be cut off on the way. */
const CARRIED = /^[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?$/;

/** Undefined when none is set. Throws a ConfigFault that does not show it. */
export function readToken(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  const token = environment['REPHUB_TOKEN'];
  if (token === undefined || token === '') return undefined;
  if (CARRIED.test(token)) return token;
  const expected = 'one line of Latin-1 text without blanks at its ends, as HTTP can carry it';
  throw new ConfigFault('bad-value', `REPHUB_TOKEN: what it is set to is not allowed, expected ${expected}`);
}
