/**
 * Who may use the API: with a token set, who knows it; and never a web page that a browser on this machine
 * was lured to: requests must name this hub as their host, and what changes something must be JSON.
 */
import { createHash, timingSafeEqual } from 'node:crypto';

export interface Guard {
  /** Null: none is asked for. */
  readonly token: string | null;
  /** Host names that requests may come for, besides those of this machine's loopback; null: any. */
  readonly hosts: readonly string[] | null;
}

export type GuardAnswer =
  { readonly pass: true } | { readonly pass: false; readonly status: 401 | 403; readonly message: string };

const PASS: GuardAnswer = { pass: true };

export function checkHost(guard: Guard, host: string | undefined): GuardAnswer {
  // None at all: HTTP/1.0, or a Unix socket's client; no browser leaves it out.
  if (guard.hosts === null || host === undefined || host === '') return PASS;
  const bare = /^(\[[^\]]*\]|[^:]*)/.exec(host)?.[1]?.toLowerCase() ?? '';
  const local = bare === 'localhost' || bare === '[::1]' || /^127(\.[0-9]{1,3}){3}$/.test(bare);
  if (local || guard.hosts.includes(bare)) return PASS;
  return { pass: false, status: 403, message: `this hub does not answer to the name '${bare.slice(0, 100)}'` };
}

export function checkToken(guard: Guard, authorization: string | undefined): GuardAnswer {
  if (guard.token === null) return PASS;
  const given = /^Bearer (.+)$/.exec(authorization ?? '')?.[1];
  if (given !== undefined && timingSafeEqual(digest(given), digest(guard.token))) return PASS;
  const message =
    given === undefined
      ? 'this hub asks for a token, and none came: set REPHUB_TOKEN to the one that rephub serve was started with'
      : 'the token is not the one that rephub serve was started with: set REPHUB_TOKEN to that one';
  return { pass: false, status: 401, message };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
