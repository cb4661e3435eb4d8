import { describe, expect, it } from 'vitest';
import { formatJson, formatTable, tableWidth } from './table.js';

describe('formatTable', () => {
  it('makes columns as wide as they must be, numbers to the right', () => {
    const columns = [{ title: 'GROUP' }, { title: 'LAG', right: true }, { title: 'STATE' }];
    const rows = [
      ['vm1', '1.5 GiB', 'protected'],
      ['database-1', '0 B', 'degraded'],
    ];
    expect(formatTable(columns, rows)).toBe(
      'GROUP           LAG  STATE\nvm1         1.5 GiB  protected\ndatabase-1      0 B  degraded\n',
    );
  });

  it('cuts the widest column so that lines fit, and keeps control characters from the terminal', () => {
    const out = formatTable([{ title: 'NAME' }, { title: 'REASON' }], [['vm1', `\u001b[31m${'why '.repeat(40)}`]], {
      width: 40,
    });
    expect(out.split('\n').every((line) => line.length <= 40)).toBe(true);
    expect(out).toContain('…');
    expect(out).not.toContain('\u001b');
  });

  it('is as wide as the terminal, and cuts nothing where there is none', () => {
    expect(tableWidth({ isTTY: true, columns: 90 })).toBe(90);
    expect(tableWidth({ isTTY: true, columns: 0 })).toBe(120);
    const long = 'why '.repeat(100).trim();
    expect(formatTable([{ title: 'REASON' }], [[long]], { width: tableWidth({}) })).toBe(`REASON\n${long}\n`);
  });

  it('says so when there is nothing', () => {
    expect(formatTable([{ title: 'NAME' }], [], { whenEmpty: 'no groups' })).toBe('no groups\n');
    expect(formatJson({ groups: [] })).toBe('{\n  "groups": []\n}\n');
  });
});
