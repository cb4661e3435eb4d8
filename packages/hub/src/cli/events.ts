/** `rephub events`: what happened, and what happens. */
import { command, type CommandContext, count, flag, withDefault } from '@rephub/command';
import { type Address, LinkFault } from '@rephub/platform';
import { z } from 'zod';
import { askHub, hubOption } from './api.js';

const FOLLOW_EVERY_MS = 1000;
const PAGE = 1000;

const eventsSchema = z.object({
  events: z.array(
    z.looseObject({
      id: z.number(),
      at: z.string(),
      level: z.string(),
      group: z.string().nullable(),
      event: z.string(),
      message: z.string(),
    }),
  ),
});
type Event = z.infer<typeof eventsSchema>['events'][number];

export const eventsCommand = command({
  name: 'events',
  summary: 'what happened to the hub and its groups, also before its last restart',
  options: {
    ...hubOption,
    last: withDefault(count({ min: 1, max: PAGE }), '50', { placeholder: 'N', help: 'the newest ones', inFile: false }),
    follow: flag({ help: 'go on with new ones until interrupted', short: 'f', inFile: false }),
    json: flag({ help: 'print JSON, one event a line', inFile: false }),
  },
  run: async (values, context) => {
    let events = await ask(values.http, context, `limit=${values.last}`);
    let after = 0;
    for (;;) {
      for (const event of events) {
        context.out(values.json ? `${JSON.stringify(event)}\n` : line(event));
        after = Math.max(after, event.id);
      }
      if (!values.follow) return undefined;
      if (events.length < PAGE) await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY_MS));
      events = await askOn(values.http, context, `after=${after}&limit=${PAGE}`);
    }
  },
});

/** A hub that is being restarted has kept its events: whoever follows them waits for it. */
async function askOn(http: Address, context: CommandContext, query: string): Promise<Event[]> {
  for (let told = false; ; told = true) {
    try {
      return await ask(http, context, query);
    } catch (thrown) {
      if (!(thrown instanceof LinkFault)) throw thrown;
      if (!told) context.err(`${thrown.message} Waiting for it.\n`);
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY_MS));
    }
  }
}

async function ask(http: Address, context: CommandContext, query: string): Promise<Event[]> {
  return eventsSchema.parse(await askHub(http, context, { path: `/events?${query}` })).events;
}

function line(event: Event): string {
  const text = `${event.at} ${event.level.padEnd(5)} ${event.group ?? '-'} ${event.event}: ${event.message}`;
  // What agents and clients sent may stand in a message, and must not reach a terminal as control characters.
  return `${text.replace(/\p{Cc}+/gu, ' ')}\n`;
}
