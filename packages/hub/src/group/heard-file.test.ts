import { SimClock, SimFiles } from '@rephub/platform/sim';
import { expect, test } from 'vitest';
import { type Heard, HeardFile } from './heard-file.js';

const LINE = '00000000-0000-4000-8000-000000000001';
const HELD = { line: LINE, number: 7 };

async function written(files: SimFiles): Promise<{ readonly clock: SimClock; readonly heard: Heard | null }> {
  await files.makeDirectory('/g');
  const clock = new SimClock({ unixMs: 1_000_000 });
  await clock.advance(5000);
  const file = new HeardFile(files, '/g');
  expect(await file.read()).toBeNull();
  await file.write(clock, clock.monotonicMs() - 300, HELD);
  return { clock, heard: await new HeardFile(files, '/g').read() };
}

test('what was written is read again; written again it follows a wall clock that jumps', async () => {
  const files = new SimFiles();
  const { heard } = await written(files);
  expect(heard).toEqual({ ...HELD, sinceUnixMs: 1_004_700, writtenUnixMs: 1_005_000 });
  const clock = new SimClock({ unixMs: 1_000_000 });
  const file = new HeardFile(files, '/g');
  await clock.advance(5000);
  clock.jumpUnix(-600_000);
  await clock.advance(1000);
  await file.write(clock, 4700, HELD);
  expect(await file.read()).toEqual({ ...HELD, sinceUnixMs: 404_700, writtenUnixMs: 406_000 });
});

test('any flipped bit makes it unknown or leaves it as it is, never another time', async () => {
  const files = new SimFiles();
  const { heard } = await written(files);
  const file = await files.open('/g/heard.json', 'write');
  const whole = Buffer.alloc(256);
  await file.read(whole, 0);
  for (let bit = 0; bit < whole.length * 8; bit += 1) {
    const rotten = Buffer.from(whole);
    rotten[bit >> 3] = (rotten[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    await file.write([rotten], 0);
    expect([null, heard], `bit ${bit}`).toContainEqual(await new HeardFile(files, '/g').read());
  }
});

test('a time that no Date can show counts as unknown: whoever shows it would fail', async () => {
  const files = new SimFiles();
  const { clock } = await written(files);
  await new HeardFile(files, '/g').write(clock, -1e300, HELD);
  expect(await new HeardFile(files, '/g').read()).toBeNull();
});

test('a disk that refuses costs what it says and nothing else', async () => {
  const files = new SimFiles();
  files.inject({ operation: 'write', path: 'heard.json', fault: 'disk-full', writtenBytes: () => 40 });
  expect((await written(files)).heard).toBeNull();
  files.inject({ operation: 'read', path: 'heard.json', fault: 'io-error' });
  expect(await new HeardFile(files, '/g').read()).toBeNull();
});

test('another agent makes it unknown', async () => {
  const files = new SimFiles();
  await written(files);
  await new HeardFile(files, '/g').remove();
  expect(await new HeardFile(files, '/g').read()).toBeNull();
});
