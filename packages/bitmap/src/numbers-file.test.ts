import { SimFiles } from '@rephub/platform/sim';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { readNumbers, writeNumbers } from './numbers-file.js';

const AGENT = '01234567-89ab-4cde-8f01-23456789abcd';
const PATH = '/numbers';
const TABLE = { next: 3, numbers: new Map(Object.entries({ swap: 1, root: 0 })) };

/** A whole file with this body, of this version. */
async function made(body: string, version = 1): Promise<SimFiles> {
  const bytes = Buffer.alloc(32 + body.length + 4);
  bytes.write('RPHN', 0, 'latin1');
  bytes.writeUInt8(version, 4);
  bytes.writeUInt32LE(body.length, 12);
  bytes.write(AGENT.replaceAll('-', ''), 16, 'hex');
  bytes.write(body, 32, 'latin1');
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  const files = new SimFiles();
  const file = await files.open(PATH, 'create-new');
  await file.write([bytes], 0);
  await file.close();
  return files;
}

describe('STATE/numbers', () => {
  it('has the bytes that its head comment says', async () => {
    const files = new SimFiles();
    await writeNumbers(files, PATH, AGENT, TABLE);
    const expected = await made('{"next":3,"numbers":[["swap",1],["root",0]]}');
    const contents = [files, expected].map(async (disk) => {
      const file = await disk.open(PATH, 'read');
      const content = Buffer.alloc(200);
      return content.subarray(0, await file.read(content, 0)).toString('hex');
    });
    const [written, made32] = await Promise.all(contents);
    expect(written).toBe(made32);
    expect(await readNumbers(files, PATH, AGENT)).toEqual(TABLE);
    expect(await readNumbers(new SimFiles(), PATH, AGENT)).toBeNull();
  });

  it('CORRUPT: is taken for nothing else than it is', async () => {
    const refused = async (files: SimFiles, code: string, agent = AGENT): Promise<void> => {
      await expect(readNumbers(files, PATH, agent)).rejects.toMatchObject({ kind: 'corruption', code });
    };
    const good = '{"next":3,"numbers":[["swap",1]]}';
    await refused(await made(good, 2), 'numbers-version');
    await refused(await made(good), 'numbers-foreign', AGENT.replace('0', '1'));
    for (const body of [
      ...['', '{', 'null', '[]', '{"next":3}', '{"next":"3","numbers":[]}', '{"next":1.5,"numbers":[]}'],
      ...['{"next":3,"numbers":[["swap"]]}', '{"next":3,"numbers":[["swap",255]]}', '{"next":3,"numbers":[[1,1]]}'],
      ...['{"next":3,"numbers":[["swap",-1]]}', '{"next":3,"numbers":{"swap":1}}', '{"next":3,"numbers":[null]}'],
    ]) {
      await refused(await made(body), 'numbers-corrupt');
    }
  });
});
