// The replica that the hub exports, copied and mapped by nbdcopy, nbdinfo and qemu-img, against a file that says what it must hold.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FrameType } from '@rephub/protocol';
import { expect, test } from 'vitest';
import { compareFiles, copyOf } from '../kit/contents.js';
import { type HubInProcess, startHub } from '../kit/hub-in-process.js';
import { must, run } from '../kit/process.js';
import { MIB, ScriptedAgent } from '../kit/scripted-agent.js';
import { type Scope } from '../kit/scope.js';
import { tempDir } from '../kit/temp-dir.js';
import { testScope } from '../kit/test-scope.js';

const SIZE = 16 * MIB;

/** A disk with data, a hole in the middle, and writes after the first sync; and the file that it must equal. */
async function replica(scope: Scope): Promise<{ hub: HubInProcess; agent: ScriptedAgent; expected: string }> {
  const hub = await startHub(scope);
  const agent = new ScriptedAgent(hub.platform, hub.agents, { volumes: [{ name: 'disk0', sizeBytes: SIZE }] });
  const disk = Buffer.alloc(SIZE);
  for (let at = 0; at < 4 * MIB; at += 4) disk.writeUInt32LE((at * 2654435761) >>> 0, at);
  await agent.protect(new Map([['disk0', disk.subarray(0, 4 * MIB)]]));
  for (let round = 0; round < 200; round += 1) {
    const offset = ((round * 7919) % 4000) * 4096;
    const bytes = Buffer.alloc(4096, round + 1);
    if (offset + 4096 > 12 * MIB) continue;
    bytes.copy(disk, offset);
    agent.write(offset, bytes);
  }
  disk.fill(0, MIB, 2 * MIB);
  await agent.durableUpTo(agent.record(FrameType.Discard, { offset: MIB, length: MIB }));
  const expected = join(await tempDir(scope), 'expected.raw');
  await writeFile(expected, disk);
  return { hub, agent, expected };
}

test('PIT: nbdcopy, twice, and qemu-img copy the same bytes, which are those that were written', async () => {
  const scope = testScope();
  const { hub, expected } = await replica(scope);
  const uri = hub.uri('vm1/disk0');
  for (let round = 0; round < 2; round += 1) {
    expect(await compareFiles(await copyOf(scope, uri), expected)).toEqual({ verdict: 'same', said: '' });
  }
  const converted = join(await tempDir(scope), 'converted.raw');
  await must('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', uri, converted]);
  expect(await compareFiles(converted, expected)).toEqual({ verdict: 'same', said: '' });
});

test('nbdcopy with its many connections copies a numbered point', async () => {
  const scope = testScope();
  const { hub, agent, expected } = await replica(scope);
  const copied = await copyOf(scope, hub.uri(`vm1/disk0@seq:${agent.lastNumber}`));
  expect(await compareFiles(copied, expected)).toEqual({ verdict: 'same', said: '' });
});

test('a copy that runs while writes go on is of one moment', async () => {
  const scope = testScope();
  const { hub, agent, expected } = await replica(scope);
  const copying = copyOf(scope, hub.uri('vm1/disk0'));
  // The copy may open its point before or after any of these: each changes both ends of the disk to the same byte.
  let last = 0;
  for (let round = 1; round <= 50; round += 1) {
    agent.spanBegin('both ends', false);
    agent.write(0, Buffer.alloc(4096, round));
    agent.write(SIZE - 4096, Buffer.alloc(4096, round));
    last = agent.record(FrameType.SpanEnd);
    await agent.durableUpTo(last);
  }
  const copy = await copying;
  const ends = await must('sh', [
    '-c',
    `head -c 4096 ${copy} | tr -d '\\000' | head -c 1 | od -An -tx1; tail -c 1 ${copy} | od -An -tx1`,
  ]);
  const [first, second] = ends
    .trim()
    .split('\n')
    .map((line) => line.trim());
  const untouched = (await compareFiles(copy, expected)).verdict === 'same';
  if (!untouched) expect(first).toBe(second);
});

test('nbdinfo tells the point in the description, the list, and the holes', async () => {
  const scope = testScope();
  const { hub, agent } = await replica(scope);
  const info = await must('nbdinfo', ['--json', hub.uri('vm1/disk0')]);
  const [entry] = (JSON.parse(info) as { exports: Record<string, unknown>[] }).exports;
  expect(entry).toMatchObject({ 'export-size': SIZE, is_read_only: true, can_multi_conn: false });
  expect(entry?.['description']).toContain(`number ${agent.lastNumber}`);
  expect(await must('nbdinfo', ['--list', '--json', hub.uri('')])).toContain('vm1/disk0');
  const map = JSON.parse(await must('nbdinfo', ['--map', '--json', hub.uri('vm1/disk0')])) as {
    offset: number;
    length: number;
    type: number;
  }[];
  const covering = map.find(({ offset, length }) => offset <= 12 * MIB && offset + length > 12 * MIB);
  expect(covering?.type, 'the end of the disk, never written').toBe(3);
});

test('an unknown name is refused by name to other makers’ clients', async () => {
  const scope = testScope();
  const { hub } = await replica(scope);
  const result = await run('qemu-img', ['info', hub.uri('vm9/disk0')]);
  expect(result.code).not.toBe(0);
  expect(result.stderr).toContain('there is no group called vm9');
});
