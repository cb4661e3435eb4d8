import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { plainReason } from './plain-reason.js';

describe('plainReason', () => {
  it('says why without the path, which Node names in its message', () => {
    try {
      readFileSync('/nonexistent/file');
      expect.unreachable();
    } catch (thrown) {
      expect(String(thrown)).toContain('/nonexistent/file');
      expect(plainReason(thrown)).toBe('no such file or directory (ENOENT)');
    }
  });

  it('says why without the address', async () => {
    const [error] = (await once(
      connect(1, '127.0.0.1').on('error', () => undefined),
      'error',
    ).catch((thrown: unknown) => [thrown])) as [Error];
    expect(error.message).toContain('127.0.0.1');
    expect(plainReason(error)).toBe('nobody listens there (ECONNREFUSED)');
  });

  it('passes on what it has no words for, and each of several', () => {
    expect(plainReason(new Error('something else'))).toBe('something else');
    expect(plainReason(Object.assign(new Error('EWEIRD: odd'), { code: 'EWEIRD' }))).toBe('EWEIRD: odd');
    expect(plainReason('a text')).toBe('a text');
    const refused = Object.assign(new Error('x'), { code: 'ECONNREFUSED' });
    expect(plainReason(new AggregateError([refused, new Error('y')]))).toBe('nobody listens there (ECONNREFUSED); y');
  });
});
