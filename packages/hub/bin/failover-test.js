#!/usr/bin/env node
// Here before the build, so that npm can link the command when it installs.
import '../dist/failover-test-main.js';
