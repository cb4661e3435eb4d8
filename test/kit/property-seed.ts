/**
 * Vitest's set-up file: property tests draw from REPHUB_TEST_SEED where that is set, as scripts/test.sh does,
 * so that what fails for a state of the sources fails again; without it every run draws afresh.
 */
import fc from 'fast-check';

const seed = process.env['REPHUB_TEST_SEED'];
if (seed !== undefined) fc.configureGlobal({ seed: Number(seed) });
