import { describe, expect, it } from 'vitest';
import { readSmallFile, replaceSmallFile } from '../files.js';
import { SimClock } from './clock.js';
import { SimFiles, SimulatedCrash } from './files.js';
import type { CrashFate } from './survival.js';

const text = (value: string): Buffer => Buffer.from(value);
const contentOf = async (disk: SimFiles, path: string): Promise<string | null> =>
  (await readSmallFile(disk, path))?.toString('latin1') ?? null;

async function synced(disk: SimFiles, path: string, content: string): Promise<void> {
  const file = await disk.open(path, 'create');
  await file.write([text(content)], 0);
  await file.sync();
  await file.close();
  await disk.syncDirectory('/');
}

describe('SimFiles as a file system', () => {
  it('reads back what was written, zeroes in between, and short only at the end', async () => {
    const disk = new SimFiles();
    const file = await disk.open('/a', 'create-new');
    await file.write([text('one'), text('two')], 5000);
    const buffer = Buffer.alloc(16, 0xff);
    expect(await file.read(buffer, 4997)).toBe(9);
    expect(buffer.subarray(0, 9)).toEqual(Buffer.concat([Buffer.alloc(3), text('onetwo')]));
    expect(await file.status()).toMatchObject({ kind: 'file', sizeBytes: 5006, allocatedBytes: 4096 });
  });

  it('knows data from holes, and punching never grows the file', async () => {
    const disk = new SimFiles();
    const file = await disk.open('/a', 'create');
    await file.truncate(1 << 20);
    await file.write([Buffer.alloc(8192, 1)], 65536);
    expect(await file.nextData(0)).toEqual({ position: 65536, lengthBytes: 8192 });
    await file.punch(65536, 4096);
    expect(await file.nextData(0)).toEqual({ position: 69632, lengthBytes: 4096 });
    await file.punch(0, 1 << 30);
    expect(await file.nextData(0)).toBeNull();
    expect((await file.status()).sizeBytes).toBe(1 << 20);
  });

  it('throws the faults that the real one throws', async () => {
    const disk = new SimFiles();
    await expect(disk.open('/a', 'read')).rejects.toMatchObject({ code: 'not-found' });
    const file = await disk.open('/a', 'create');
    await expect(disk.open('/a', 'create-new')).rejects.toMatchObject({ code: 'exists' });
    await expect(disk.open('/a/b', 'create')).rejects.toMatchObject({ code: 'not-a-directory' });
    await expect(disk.list('/x')).rejects.toMatchObject({ code: 'not-found' });
    await disk.remove('/x');
    await file.close();
    await expect(file.sync()).rejects.toMatchObject({ code: 'closed' });
    expect(await disk.status('/x')).toBeNull();
  });

  it('renames over another file and lists sorted names', async () => {
    const disk = new SimFiles();
    await disk.makeDirectory('/d/e');
    await synced(disk, '/d/e/b', 'new');
    await synced(disk, '/d/e/a', 'old');
    await disk.rename('/d/e/b', '/d/e/a');
    expect(await disk.list('/d/e')).toEqual(['a']);
    expect(await contentOf(disk, '/d/e/a')).toBe('new');
    await disk.removeTree('/d');
    expect(await disk.status('/d')).toBeNull();
  });

  it('gives a lock to one holder at a time', async () => {
    const disk = new SimFiles();
    const lock = await disk.lock('/lock');
    expect(await disk.lock('/lock')).toBeNull();
    await lock?.release();
    expect(await disk.lock('/lock')).not.toBeNull();
  });

  it('is full at its capacity: the write throws having written what fits, room says so', async () => {
    const disk = new SimFiles({ capacityBytes: 8192 });
    const file = await disk.open('/a', 'create');
    await expect(file.write([Buffer.alloc(12_288, 1)], 0)).rejects.toMatchObject({
      code: 'disk-full',
      retryable: true,
    });
    expect((await file.status()).sizeBytes).toBe(8192);
    expect(await disk.room('/')).toEqual({ freeBytes: 0, totalBytes: 8192 });
    await file.write([Buffer.alloc(8192, 2)], 0);
    await expect(file.allocate(8192, 1)).rejects.toMatchObject({ code: 'disk-full' });
  });

  it('takes its time when it has a clock', async () => {
    const clock = new SimClock();
    const disk = new SimFiles({ clock, delayMs: (operation) => (operation === 'sync' ? 10 : 1) });
    let done = false;
    const work = synced(disk, '/a', 'x').then(() => {
      done = true;
    });
    await clock.advance(13);
    expect(done).toBe(false);
    await clock.advance(2);
    await work;
    expect(done).toBe(true);
  });
});

describe('SimFiles after a crash', () => {
  it('has all that was synced, whatever the fate of the rest', async () => {
    for (const fate of ['keep', 'lose', 'tear', 'garble', 'mixed'] satisfies CrashFate[]) {
      for (let seed = 0; seed < 20; seed += 1) {
        const disk = new SimFiles();
        await synced(disk, '/a', 'synced');
        const file = await disk.open('/a', 'write');
        await file.write([Buffer.alloc(4096, 1)], 6);
        const after = disk.crash({ seed, fate });
        expect((await contentOf(after, '/a'))?.slice(0, 6), `seed ${seed} ${fate}`).toBe('synced');
      }
    }
  });

  it('keeps everything when only the process died, loses everything unsynced when told to', async () => {
    const fill = async (): Promise<SimFiles> => {
      const disk = new SimFiles();
      await synced(disk, '/a', 'old');
      await (await disk.open('/a', 'write')).write([text('new')], 0);
      await disk.open('/b', 'create');
      await disk.rename('/a', '/c');
      return disk;
    };
    const kept = (await fill()).crash({ seed: 1, fate: 'keep' });
    expect([await kept.list('/'), await contentOf(kept, '/c')]).toEqual([['b', 'c'], 'new']);
    const lost = (await fill()).crash({ seed: 1, fate: 'lose' });
    expect([await lost.list('/'), await contentOf(lost, '/a')]).toEqual([['a'], 'old']);
  });

  it('tears a write at sectors and garbles only bytes that were being written', async () => {
    const seen = new Set<string>();
    for (let seed = 0; seed < 60; seed += 1) {
      const disk = new SimFiles();
      await synced(disk, '/a', 'o'.repeat(4096));
      const file = await disk.open('/a', 'write');
      await file.write([Buffer.alloc(2048, 'n')], 1000);
      const fate = seed % 2 === 0 ? 'tear' : 'garble';
      const content = (await contentOf(disk.crash({ seed, fate }), '/a')) ?? '';
      expect(content.slice(0, 1000) + content.slice(3048)).toBe('o'.repeat(2048));
      if (fate === 'tear') expect(content.slice(1024, 1536)).toMatch(/^(o{512}|n{512})$/);
      seen.add(
        /[^on]/.test(content)
          ? 'garbled'
          : content.includes('n')
            ? content.slice(1000, 3048).includes('o')
              ? 'torn'
              : 'whole'
            : 'lost',
      );
    }
    expect([...seen].sort()).toEqual(expect.arrayContaining(['garbled', 'torn']));
  });

  it('may have lost a name whose directory was not synced, though its file was', async () => {
    const found = new Set<boolean>();
    for (let seed = 0; seed < 30; seed += 1) {
      const disk = new SimFiles();
      const file = await disk.open('/a', 'create');
      await file.write([text('x')], 0);
      await file.sync();
      found.add((await disk.crash({ seed }).status('/a')) !== null);
    }
    expect(found.size).toBe(2);
  });

  it('brings a removed file back when the removal was not synced', async () => {
    const removed = async (): Promise<SimFiles> => {
      const disk = new SimFiles();
      await synced(disk, '/a', 'x');
      await disk.remove('/a');
      return disk;
    };
    expect(await contentOf((await removed()).crash({ seed: 1, fate: 'lose' }), '/a')).toBe('x');
    const disk = await removed();
    await disk.syncDirectory('/');
    expect(await contentOf(disk.crash({ seed: 1, fate: 'lose' }), '/a')).toBeNull();
  });

  it('shows old or new, never anything else, wherever replaceSmallFile was cut off', async () => {
    const outcomes = new Set<string | null>();
    for (let change = 1; ; change += 1) {
      let finished = false;
      for (let seed = 0; seed < 12; seed += 1) {
        const disk = new SimFiles();
        await synced(disk, '/a', 'old');
        disk.crashAt(disk.changes + change);
        const ended = await replaceSmallFile(disk, '/a', text('new')).then(
          () => true,
          (error: unknown) => {
            expect(error).toBeInstanceOf(SimulatedCrash);
            return false;
          },
        );
        const content = await contentOf(disk.crash({ seed }), '/a');
        outcomes.add(content);
        if (ended) expect(content, `seed ${seed}`).toBe('new');
        finished ||= ended;
      }
      if (finished) break;
    }
    expect([...outcomes].sort()).toEqual(['new', 'old']);
  });

  it('would show a missing sync: without it the replaced file can be empty', async () => {
    const outcomes = new Set<string | null>();
    for (let seed = 0; seed < 40; seed += 1) {
      const disk = new SimFiles();
      await synced(disk, '/a', 'old');
      const file = await disk.open('/a.new', 'create');
      await file.write([text('new')], 0);
      await disk.rename('/a.new', '/a');
      await disk.syncDirectory('/');
      outcomes.add(await contentOf(disk.crash({ seed }), '/a'));
    }
    expect(outcomes.size).toBeGreaterThan(1);
  });

  it('answers every call on the old disk and its files with the crash', async () => {
    const disk = new SimFiles();
    const file = await disk.open('/a', 'create');
    disk.crashAt(disk.changes + 1);
    await expect(file.write([text('x')], 0)).rejects.toThrow(SimulatedCrash);
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toThrow(SimulatedCrash);
    await expect(disk.list('/')).rejects.toThrow(SimulatedCrash);
  });

  it('tells what a crash would leave, and goes on', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'old');
    const file = await disk.open('/a', 'write');
    await file.write([text('new')], 0);
    const imagined = disk.imagineCrash({ seed: 1, fate: 'lose' });
    expect(await contentOf(imagined, '/a')).toBe('old');
    await synced(imagined, '/a', 'odd');
    await file.sync();
    const seen = Buffer.alloc(8);
    expect(disk.look('/a', seen, 1)).toBe(2);
    expect(seen.subarray(0, 2).toString()).toBe('ew');
    expect(disk.look('/b', seen, 0)).toBe(0);
    expect(await contentOf(disk, '/a')).toBe('new');
  });

  it('counts a sync that was under way as not done', async () => {
    const clock = new SimClock();
    const disk = new SimFiles({ clock, delayMs: (operation) => (operation === 'sync' ? 100 : 0) });
    const opening = disk.open('/a', 'create');
    await clock.advance(0);
    const file = await opening;
    await Promise.all([file.write([text('x')], 0), disk.syncDirectory('/'), clock.advance(1)]);
    const sync = expect(file.sync()).rejects.toThrow(SimulatedCrash);
    await clock.advance(50);
    const after = disk.crash({ seed: 3, fate: 'lose' });
    await clock.advance(100);
    await sync;
    const reading = after.status('/a');
    await clock.advance(1);
    expect((await reading)?.allocatedBytes).toBe(0);
  });
});

describe('SimFiles with injected faults', () => {
  it('fails the operations that the rule names, after those it skips, as often as it says', async () => {
    const disk = new SimFiles();
    const rule = disk.inject({ operation: 'write', path: '.log', skip: 1, times: 2, fault: 'disk-full' });
    const file = await disk.open('/a.log', 'create');
    const other = await disk.open('/b', 'create');
    await file.write([text('1')], 0);
    await other.write([text('1')], 0);
    await expect(file.write([text('22')], 1)).rejects.toMatchObject({ code: 'disk-full', retryable: true });
    await expect(file.write([text('22')], 1)).rejects.toMatchObject({ code: 'disk-full' });
    await file.write([text('22')], 1);
    expect(rule.hits).toBe(2);
  });

  it('after a failed sync shows readers the data and never puts it on the disk', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'old');
    const file = await disk.open('/a', 'write');
    const other = await disk.open('/a', 'write');
    await file.write([text('new')], 0);
    disk.inject({ operation: 'sync', fault: 'io-error' });
    await expect(file.sync()).rejects.toMatchObject({ code: 'sync-failed', retryable: false });
    await expect(file.sync()).rejects.toMatchObject({ code: 'sync-failed' });
    await expect(file.write([text('x')], 0)).rejects.toMatchObject({ code: 'sync-failed' });
    await expect(other.sync()).rejects.toMatchObject({ code: 'sync-failed' });
    const later = await disk.open('/a', 'write');
    await later.sync();
    expect(await contentOf(disk, '/a')).toBe('new');
    expect(await contentOf(disk.crash({ seed: 1, fate: 'keep' }), '/a')).toBe('old');
  });

  it('shortens and spoils reads', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'abcd');
    const file = await disk.open('/a', 'read');
    disk.inject({ operation: 'read', fault: 'short-read' });
    expect(await file.read(Buffer.alloc(4), 0)).toBe(2);
    disk.inject({ operation: 'read', fault: 'flip-bit' });
    const buffer = Buffer.alloc(4);
    await file.read(buffer, 0);
    expect(buffer.equals(text('abcd'))).toBe(false);
    await file.read(buffer, 0);
    expect(buffer.equals(text('abcd'))).toBe(true);
  });
});

describe('SimFiles when the disk goes wrong', () => {
  it('draws the fate of each unsynced write by itself, the same from the same seed', async () => {
    const found = new Map<string, number>();
    for (let seed = 0; seed < 40; seed += 1) {
      const disk = new SimFiles();
      await synced(disk, '/a', 'o'.repeat(8 * 4096));
      const file = await disk.open('/a', 'write');
      for (let index = 0; index < 8; index += 1) await file.write([Buffer.alloc(4096, 'n')], index * 4096);
      const content = (await contentOf(disk.crash({ seed }), '/a')) ?? '';
      expect(await contentOf(disk.crash({ seed }), '/a')).toBe(content);
      const fates = new Set<string>();
      for (let index = 0; index < 8; index += 1) {
        const part = content.slice(index * 4096, (index + 1) * 4096);
        const fate = /[^on]/.test(part)
          ? 'garbled'
          : !part.includes('o')
            ? 'kept'
            : part.includes('n')
              ? 'torn'
              : 'lost';
        fates.add(fate);
        found.set(fate, (found.get(fate) ?? 0) + 1);
      }
      expect(fates.size, `seed ${seed}`).toBeGreaterThan(1);
    }
    expect([...found.keys()].sort()).toEqual(['garbled', 'kept', 'lost', 'torn']);
  });

  it('may treat each path in its own way', async () => {
    const disk = new SimFiles();
    await disk.makeDirectory('/d');
    for (const path of ['/a', '/d/b']) await (await disk.open(path, 'create')).write([text('new')], 0);
    const after = disk.crash({ seed: 1, fate: (path) => (path.startsWith('/d') ? 'keep' : 'lose') });
    expect([await after.list('/'), await contentOf(after, '/d/b')]).toEqual([['d'], 'new']);
  });

  it('after a failed sync gives readers the old bytes once the cache is evicted', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'old..');
    const file = await disk.open('/a', 'write');
    await file.write([text('new')], 0);
    disk.inject({ operation: 'sync', fault: 'io-error' });
    await expect(file.sync()).rejects.toMatchObject({ code: 'sync-failed' });
    expect(await contentOf(disk, '/a')).toBe('new..');
    const later = await disk.open('/a', 'write');
    await later.write([text('!!')], 3);
    disk.evict('/a');
    expect(await contentOf(disk, '/a')).toBe('old!!');
    await later.sync();
    expect(await contentOf(disk.crash({ seed: 1, fate: 'lose' }), '/a')).toBe('old!!');
  });

  it('drops the pages at once where the file system does so', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'old');
    const file = await disk.open('/a', 'write');
    await file.write([text('new')], 0);
    disk.inject({ operation: 'sync', fault: 'io-error', evicts: true });
    await expect(file.sync()).rejects.toMatchObject({ code: 'sync-failed' });
    expect(await contentOf(disk, '/a')).toBe('old');
  });

  it('loses nothing by eviction that still waits to be written', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'old');
    await (await disk.open('/a', 'write')).write([text('new')], 0);
    disk.evict();
    expect(await contentOf(disk, '/a')).toBe('new');
  });

  it('writes as many bytes as the rule says before it fails', async () => {
    const disk = new SimFiles();
    const file = await disk.open('/a', 'create');
    disk.inject({ operation: 'write', fault: 'io-error', writtenBytes: () => 3 });
    await expect(file.write([text('abcdef')], 0)).rejects.toMatchObject({ code: 'io-error' });
    expect(await contentOf(disk, '/a')).toBe('abc');
  });

  it('strikes by chance, the same operations from the same seed', async () => {
    const struck = async (seed: number): Promise<string> => {
      const disk = new SimFiles({ seed });
      const file = await disk.open('/a', 'create');
      disk.inject({ operation: 'write', fault: 'disk-full', chance: 0.3, times: Infinity });
      let outcome = '';
      for (let count = 0; count < 40; count += 1) {
        outcome += await file.write([text('x')], 0).then(
          () => '.',
          () => 'x',
        );
      }
      return outcome;
    };
    expect(await struck(5)).toBe(await struck(5));
    expect(await struck(5)).not.toBe(await struck(6));
    expect((await struck(5)).split('x').length).toBeGreaterThan(4);
  });

  it('counts its room while files grow, shrink, and change or lose their names', async () => {
    const disk = new SimFiles();
    await disk.makeDirectory('/d/e');
    const a = await disk.open('/d/a', 'create');
    await a.write([Buffer.alloc(10_000, 1)], 0);
    await a.allocate(20_000, 4096);
    expect(disk.usedBytes).toBe(5 * 4096);
    await a.punch(0, 8192);
    await disk.rename('/d/a', '/d/e/a');
    const b = await disk.open('/d/b', 'create');
    await b.write([Buffer.alloc(4096, 1)], 0);
    expect(disk.usedBytes).toBe(4 * 4096);
    expect(disk.crash({ seed: 1, fate: 'keep' }).usedBytes).toBe(4 * 4096);
    const later = disk.crash({ seed: 1, fate: 'keep' });
    await later.rename('/d/b', '/d/e/a');
    expect(later.usedBytes).toBe(4096);
    await later.removeTree('/d');
    expect(later.usedBytes).toBe(0);
  });

  it.each(['/from', '/to'])(
    'a directory that was moved is in one place after a crash, when %s was synced',
    async (side) => {
      const disk = new SimFiles();
      for (const path of ['/from', '/to']) await disk.makeDirectory(path);
      await disk.syncDirectory('/');
      await disk.makeDirectory('/from/moved');
      await disk.rename('/from/moved', '/to/moved');
      await disk.syncDirectory(side);
      const after = disk.crash({ seed: 1, fate: 'lose' });
      expect(await after.list('/from')).toEqual([]);
      expect(await after.list('/to')).toEqual(['moved']);
    },
  );

  it('gets full and has room again while it runs', async () => {
    const disk = new SimFiles();
    const file = await disk.open('/a', 'create');
    await file.write([Buffer.alloc(8192, 1)], 0);
    disk.setCapacity(4096);
    expect(await disk.room('/')).toEqual({ freeBytes: 0, totalBytes: 4096 });
    await file.write([Buffer.alloc(4096, 2)], 4096);
    await expect(file.write([Buffer.alloc(1, 2)], 8192)).rejects.toMatchObject({ code: 'disk-full' });
    disk.setCapacity(12_288);
    await file.write([Buffer.alloc(1, 2)], 8192);
    const after = disk.crash({ seed: 1, fate: 'keep' });
    await expect((await after.open('/b', 'create')).write([text('x')], 0)).rejects.toMatchObject({ code: 'disk-full' });
  });

  it('rots: one bit of what is stored is wrong from now on, in the cache too unless it was written since', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'abcd');
    disk.rot('/a', 1, 0);
    expect(await contentOf(disk, '/a')).toBe('accd');
    await (await disk.open('/a', 'write')).write([text('B')], 1);
    disk.rot('/a', 1, 7);
    expect(await contentOf(disk, '/a')).toBe('aBcd');
    expect(await contentOf(disk.crash({ seed: 1, fate: 'lose' }), '/a')).toBe('a\u00e3cd');
    expect(() => disk.rot('/a', 4, 0)).toThrow('no stored byte 4');
    expect(() => disk.rot('/b', 0, 0)).toThrow('no such file');
  });

  it('lets somebody make a file larger, for good', async () => {
    const disk = new SimFiles();
    await synced(disk, '/a', 'abcd');
    await (await disk.open('/a', 'write')).write([text('AB')], 0);
    disk.extend('/a', 6);
    expect(await contentOf(disk, '/a')).toBe('ABcd\0\0');
    expect(await contentOf(disk.crash({ seed: 1, fate: 'lose' }), '/a')).toBe('abcd\0\0');
    expect(() => disk.extend('/b', 1)).toThrow('no such file');
  });

  it('restores a backup: what was stored then, durably, instead of what is there now', async () => {
    const disk = new SimFiles();
    await disk.makeDirectory('/d/e');
    await synced(disk, '/d/e/a', 'first');
    await disk.syncDirectory('/d/e');
    const unsynced = await disk.open('/d/e/a', 'write');
    await unsynced.write([text('FIRST')], 0);
    const backup = disk.snapshot('/d');
    await unsynced.sync();
    await synced(disk, '/d/b', 'later');
    for (let time = 0; time < 2; time += 1) {
      disk.restore('/d', backup);
      expect([await disk.list('/d'), await contentOf(disk, '/d/e/a')]).toEqual([['e'], 'first']);
      const after = disk.imagineCrash({ seed: 1, fate: 'lose' });
      expect([await after.list('/d'), await contentOf(after, '/d/e/a')]).toEqual([['e'], 'first']);
      expect(disk.usedBytes).toBe(4096);
      const file = await disk.open('/d/e/a', 'write');
      await file.write([text('other')], 0);
      await file.sync();
    }
    disk.restore('/d', disk.snapshot('/missing'));
    expect([await disk.status('/d'), disk.usedBytes]).toEqual([null, 0]);
  });

  it('hangs while it is paused, what was under way too, and goes on in order', async () => {
    const clock = new SimClock();
    const disk = new SimFiles({ clock, delayMs: () => 10 });
    const done: string[] = [];
    void disk.makeDirectory('/d').then(() => done.push('made'));
    await clock.advance(5);
    disk.pause();
    void disk.list('/').then(() => done.push('listed'));
    await clock.advance(1000);
    expect(done).toEqual([]);
    disk.resume();
    await clock.advance(0);
    expect(done).toEqual(['made']);
    await clock.advance(10);
    expect(done).toEqual(['made', 'listed']);
  });

  it('has an effect late where that is drawn, at the end of its time, and never where its process was killed before', async () => {
    const clock = new SimClock();
    const disk = new SimFiles({ clock, delayMs: (operation) => (operation === 'write' ? 5 : 0), lateChance: 1 });
    const made = disk.open('/a', 'create');
    await clock.advance(0);
    const file = await made;
    const seen = (): string => {
      const buffer = Buffer.alloc(3);
      return buffer.toString('latin1', 0, disk.look('/a', buffer, 0));
    };
    const first = file.write([text('one')], 0);
    await clock.advance(4);
    expect(seen()).toBe('');
    await clock.advance(1);
    await first;
    expect(seen()).toBe('one');
    const second = file.write([text('two')], 0);
    const outcome = expect(second).rejects.toThrow(SimulatedCrash);
    await clock.advance(4);
    disk.abandon();
    await clock.advance(10);
    await outcome;
    expect(seen()).toBe('one');
    // Whoever comes next is served.
    const third = file.write([text('six')], 0);
    await clock.advance(5);
    await third;
    expect(seen()).toBe('six');
  });

  it('ends what hangs when it crashes', async () => {
    const disk = new SimFiles();
    disk.pause();
    const hanging = expect(disk.list('/')).rejects.toThrow(SimulatedCrash);
    expect(await disk.crash({ seed: 1 }).list('/')).toEqual([]);
    await hanging;
  });
});
