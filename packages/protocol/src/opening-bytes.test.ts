import { describe, expect, test } from 'vitest';
import { encodeControl } from './messages.js';
import { FrameType } from './frame.js';
import { OpeningBytes } from './opening-bytes.js';

/** What is found by each piece in turn. */
function found(bytes: Buffer, pieceBytes: number): (string | null)[] {
  const opening = new OpeningBytes();
  const pieces = Array.from({ length: Math.ceil(bytes.length / pieceBytes) }, (_, index) =>
    bytes.subarray(index * pieceBytes, (index + 1) * pieceBytes),
  );
  return pieces.map((piece) => opening.take(piece));
}

describe('opening bytes', () => {
  test.for([
    ['HTTP/1.1 400 Bad Request\r\n', 'HTTP'],
    ['GET /metrics HTTP/1.1\r\n', 'HTTP'],
    ['NBDMAGICIHAVEOPT', 'NBD'],
    ['SSH-2.0-OpenSSH_9.6\r\n', 'SSH'],
    ['\x15\x03\x03\x00\x02\x02\x46', 'TLS'],
    ['\x16\x03\x01\x02\x00', 'TLS'],
    ['220 mail ready\r\n', 'something else'],
  ] as const)('%j is %s, however it is cut', ([text, name]) => {
    const bytes = Buffer.from(text, 'latin1');
    expect(found(bytes, bytes.length)).toEqual([name]);
    expect(found(bytes, 1).slice(0, 4)).toEqual([null, null, null, name]);
    expect(found(bytes, 3).slice(0, 2)).toEqual([null, name]);
  });

  test('a frame is none of them, nor is anything after its first bytes', () => {
    const frame = encodeControl(FrameType.Bye, { reason: 'x' });
    for (const size of [1, 3, 4, frame.length]) expect(new Set(found(frame, size))).toEqual(new Set([null]));
    expect(found(Buffer.concat([frame, Buffer.from('HTTP/1.1 ')]), frame.length)).toEqual([null, null]);
  });
});
