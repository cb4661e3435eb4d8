#!/usr/bin/env node
// CommonJS, for which Node has read no file with a thread of libuv's pool yet: its size is settled by the first that does.
// Four, the default, would be four requests at a time to all disks together, those of other volumes and groups included.
process.env.UV_THREADPOOL_SIZE ??= '16';
// Here before the build, so that npm can link the command when it installs.
import('../dist/main.js').catch((error) => {
  if (error?.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  console.error(`repagent: not built yet, or being built just now: npm run build, then try again (${error.message})`);
  process.exitCode = 75;
});
