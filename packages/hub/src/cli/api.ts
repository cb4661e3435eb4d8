/** How the commands find and ask a running hub. */
import { address, askJson, type CommandContext, withDefault } from '@rephub/command';
import type { Address } from '@rephub/platform';
import { z } from 'zod';
import type { GroupStatus } from '../group/group-status.js';
import { readToken } from './token.js';

/** The option that every command which asks a hub has. */
export const hubOption = {
  http: withDefault(address(), '127.0.0.1:9011', { placeholder: 'ADDR', help: 'the hub: HOST:PORT or unix:PATH' }),
};

export interface Ask {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  /** Below /api/v1. */
  readonly path: string;
  readonly body?: object;
  readonly timeoutMs?: number;
}

/** The hub's answer; what it refuses ends the command with its message. */
export async function askHub(http: Address, context: CommandContext, ask: Ask): Promise<unknown> {
  return await askJson({
    address: http,
    method: ask.method ?? 'GET',
    path: `/api/v1${ask.path}`,
    ...(ask.body === undefined ? {} : { body: ask.body }),
    token: readToken(context.environment),
    timeoutMs: ask.timeoutMs ?? 10_000,
  });
}

/** The part of a group's status that the commands themselves rely on; all of it goes through as it came. */
const groupsSchema = z.object({ groups: z.array(z.looseObject({ name: z.string(), state: z.string() })) });

/** All groups, or the one asked for. */
export async function askGroups(
  http: Address,
  context: CommandContext,
  group: string | undefined,
): Promise<readonly GroupStatus[]> {
  const answer =
    group === undefined
      ? await askHub(http, context, { path: '/groups' })
      : { groups: [await askHub(http, context, { path: `/groups/${encodeURIComponent(group)}` })] };
  return groupsSchema.parse(answer).groups as unknown as readonly GroupStatus[];
}
