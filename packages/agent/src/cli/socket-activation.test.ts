import { describe, expect, it } from 'vitest';
import { passedSockets } from './socket-activation.js';

describe('socket activation', () => {
  it.each<[string, Record<string, string>, number[]]>([
    ['nothing is passed', {}, []],
    ['one socket', { LISTEN_PID: '7', LISTEN_FDS: '1' }, [3]],
    ['two sockets', { LISTEN_PID: '7', LISTEN_FDS: '2' }, [3, 4]],
    ['for another process', { LISTEN_PID: '8', LISTEN_FDS: '1' }, []],
  ])('%s', (_what, environment, expected) => {
    expect(passedSockets(environment, 7)).toEqual(expected);
  });

  it.each(['x', '-1', '1.5', '65'])('LISTEN_FDS=%s is refused, by name', (count) => {
    expect(() => passedSockets({ LISTEN_PID: '7', LISTEN_FDS: count }, 7)).toThrow('LISTEN_FDS');
  });
});
