#!/usr/bin/env node
// Here before the build, so that npm can link the command when it installs.
try {
  await import('../dist/main.js');
} catch (error) {
  if (error?.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  console.error(`repagent: not built yet, or being built just now: npm run build, then try again (${error.message})`);
  process.exitCode = 75;
}
