/** Copies an image file for good: shared blocks where the file system can, else byte by byte with its holes left out. */
import { type FileSystem, parentOf } from '@rephub/platform';
import { allZero } from '@rephub/protocol';

const CHUNK_BYTES = 1024 * 1024;

/** `to` must not exist; content, size and name are durable when this resolves. `stopped` ends it early; then false. */
export async function copyImage(files: FileSystem, from: string, to: string, stopped: () => boolean): Promise<boolean> {
  const shared = (await files.reflink?.(from, to)) ?? false;
  const source = await files.open(from, 'read');
  try {
    const target = await files.open(to, shared ? 'write' : 'create-new');
    try {
      const { sizeBytes } = await source.status();
      if (!shared) {
        const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
        for (let run = await source.nextData(0); run !== null;) {
          const end = Math.min(run.position + run.lengthBytes, sizeBytes);
          for (let at = run.position; at < end; at += CHUNK_BYTES) {
            if (stopped()) return false;
            const chunk = buffer.subarray(0, Math.min(CHUNK_BYTES, end - at));
            const read = await source.read(chunk, at, true);
            if (read < chunk.length) chunk.fill(0, read);
            if (!allZero([chunk])) await target.write([chunk], at);
          }
          run = end >= sizeBytes ? null : await source.nextData(end);
        }
        await target.truncate(sizeBytes);
      }
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
  await files.syncDirectory(parentOf(to));
  return true;
}
