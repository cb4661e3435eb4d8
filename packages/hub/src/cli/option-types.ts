/** Option values that only this package reads: where agents and NBD clients come to. */
import { textType, type TextType } from '@rephub/command';
import { parseListenUri } from '@rephub/nbd';
import { type Address, asError } from '@rephub/platform';
import { dialAddress, parseHubUrl } from '@rephub/protocol';

/** A hub URL to listen on, as its address. */
export function hubListen(): TextType<Address> {
  return textType((given) => {
    try {
      return { value: dialAddress(parseHubUrl(given, 'listen')) };
    } catch (thrown) {
      return { expected: `tcp://HOST:PORT or unix:///PATH${why(thrown, `hub URL ${JSON.stringify(given)}: `)}` };
    }
  });
}

/** An NBD URI to listen on, as its address. */
export function nbdListen(): TextType<Address> {
  return textType((given) => {
    try {
      return { value: parseListenUri(given) };
    } catch (thrown) {
      return { expected: `nbd://HOST:PORT or nbd+unix:///?socket=PATH${why(thrown, `'${given}': `)}` };
    }
  });
}

/** What the forms alone do not tell, without the value, which the refusal has named already. */
function why(thrown: unknown, before: string): string {
  const { message } = asError(thrown);
  const told = message.startsWith(before) ? message.slice(before.length) : message;
  return told.startsWith('expected ') ? '' : ` (${told})`;
}
