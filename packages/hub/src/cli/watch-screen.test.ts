import { describe, expect, it } from 'vitest';
import { WatchScreen } from './watch-screen.js';

const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 600);
const CLEAR = '\x1b[H\x1b[2J';

describe('status --watch', () => {
  it('on a terminal: the last table stays while the hub is away, with since when and why', () => {
    const screen = new WatchScreen(true);
    expect(screen.hasAnswered).toBe(false);
    expect(screen.answered('table 1\n', AT)).toEqual({ out: `${CLEAR}table 1\n`, err: '' });
    const away = screen.away('nobody answers at here:1: is it running?', AT + 12_400);
    expect(away.err).toBe('');
    expect(away.out).toBe(
      `${CLEAR}table 1\n\nThe hub is away since 2026-01-02T03:04:05Z, for 12 s: nobody answers at here:1: is it running?\n` +
        'Waiting for it; what stands above is of then.\n',
    );
    expect(screen.away('still', AT + 13_400).out).toContain('since 2026-01-02T03:04:05Z, for 13 s: still');
    expect(screen.answered('table 2\n', AT + 14_400)).toEqual({ out: `${CLEAR}table 2\n`, err: '' });
  });

  it('to a pipe: stdout has answers only, stderr says once that it is away and once that it is back', () => {
    const screen = new WatchScreen(false);
    const said = [
      screen.answered('1\n', AT),
      screen.away('gone.', AT + 1000),
      screen.away('gone.', AT + 2000),
      screen.answered('2\n', AT + 3000),
      screen.answered('3\n', AT + 4000),
    ];
    expect(said.map(({ out }) => out)).toEqual(['1\n', '', '', '2\n', '3\n']);
    expect(said.map(({ err }) => err)).toEqual([
      '',
      'The hub is away since 2026-01-02T03:04:05Z: gone. Waiting for it.\n',
      '',
      'The hub answers again.\n',
      '',
    ]);
  });
});
